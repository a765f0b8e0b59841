package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// rouse runs the rouse that people type.
func rouse(c *harness.Cluster, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.Context, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(os.Getenv(harness.EnvImages), "rouse"), args...).CombinedOutput()
	return string(out), err
}

// faulty makes a Deployment that asks for nothing to run, and what follows.
func faulty(name, annotations, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev%[2]s}}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template: {metadata: {labels: {app: %[1]s}}, spec: {containers: [{name: user, image: {{image "testapp"}}}]}}
%[3]s`, name, annotations, more)
}

func plain(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {%s ports: [{name: http, port: 80, targetPort: 8080}]}\n", name, spec)
}

// TestRouseBadInput: each fault is one Event and one log line, and a sound workload beside them wakes.
func TestRouseBadInput(t *testing.T) {
	c := install(t)
	cases := []struct{ name, reason, manifest string }{
		{"lonely", "NoService", faulty("lonely", "", "")},
		{"twofold", "SeveralServices", faulty("twofold", "", plain("twofold", "")+strings.Replace(plain("twofold-b", ""), "{name: twofold-b}", "{name: twofold-b, annotations: {rouse.dev/workload: twofold}}", 1))},
		{"selecting", "ServiceHasSelector", faulty("selecting", "", plain("selecting", "selector: {app: selecting},"))},
		{"reselected", "SelectorIsBack", faulty("reselected", "", strings.Replace(plain("reselected", "selector: {app: reselected},"), "{name: reselected}", `{name: reselected, annotations: {rouse.dev/adopted-selector: '{"app":"reselected"}'}}`, 1))},
		{"headless", "ServiceIsHeadless", faulty("headless", "", plain("headless", "clusterIP: None,"))},
		{"local", "InternalTrafficPolicyLocal", faulty("local", "", plain("local", "internalTrafficPolicy: Local,"))},
		{"clinging", "SessionAffinityClientIP", faulty("clinging", "", plain("clinging", "sessionAffinity: ClientIP,"))},
		{"mistaken", "InvalidSettings", faulty("mistaken", `, autoscaling.knative.dev/target: "many", autoscaling.knative.dev/window: 1s`, plain("mistaken", ""))},
		{"rivalled", "OtherAutoscaler", faulty("rivalled", "", plain("rivalled", "")+`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: rivalled}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: rivalled}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}
`)},
	}
	for _, tc := range cases {
		c.Apply(tc.manifest)
	}
	c.Apply(hello(0, ""))
	for _, tc := range cases {
		c.Eventually(time.Minute, tc.name+" has its Event", func() error {
			if n := events(t, c, tc.name, tc.reason); n != 1 {
				return fmt.Errorf("%d Events %s", n, tc.reason)
			}
			return nil
		})
	}
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	if r := c.Get(url + "/"); r.Status != 200 {
		t.Errorf("the sound workload beside them: %d %q", r.Status, r.Body)
	}
	lasting(c, 5*time.Second) // several decisions
	logs := c.Logs("autoscaler-0", "autoscaler") + c.Logs("autoscaler-1", "autoscaler")
	for _, tc := range cases {
		if n := events(t, c, tc.name, tc.reason); n != 1 {
			t.Errorf("%s: %d Events %s later, want one", tc.name, n, tc.reason)
		}
		if n := linesAbout(logs, tc.name, tc.reason); n != 1 {
			t.Errorf("%s: %d log lines, want one", tc.name, n)
		}
	}
}

// linesAbout counts the log lines that name an object with a reason.
func linesAbout(logs, name, reason string) (n int) {
	for line := range strings.Lines(logs) {
		if strings.Contains(line, `"reason":"`+reason+`"`) && strings.Contains(line, `"name":"`+name+`"`) {
			n++
		}
	}
	return n
}

func events(t *testing.T, c *harness.Cluster, name, reason string) (n int) {
	t.Helper()
	list, err := c.Client.CoreV1().Events(c.Namespace).List(c.Context, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		n += int(max(e.Count, 1))
	}
	return n
}

// TestRouseWithoutRights: what may not be scaled is said once, and the rest goes on.
func TestRouseWithoutRights(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	// The role without the scale subresource.
	role, err := c.Client.RbacV1().ClusterRoles().Get(c.Context, "rouse-control", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cut := role.DeepCopy()
	for i := range cut.Rules {
		if cut.Rules[i].Resources[0] == "deployments/scale" {
			cut.Rules[i].Resources = []string{"statefulsets/scale"}
		}
	}
	if _, err := c.Client.RbacV1().ClusterRoles().Update(c.Context, cut, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		r, err := harness.Send(c.Context, "GET", url+"/", nil, nil)
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		answered <- err
	}()
	c.Eventually(30*time.Second, "the refusal is said", func() error {
		if n := events(t, c, "hello", "PermissionDenied"); n != 1 {
			return fmt.Errorf("%d Events", n)
		}
		return nil
	})
	lasting(c, 5*time.Second)
	if n := events(t, c, "hello", "PermissionDenied"); n != 1 {
		t.Errorf("%d Events, want one", n)
	}
	if n := linesAbout(c.Logs("autoscaler-0", "autoscaler")+c.Logs("autoscaler-1", "autoscaler"), "hello", "PermissionDenied"); n != 1 {
		t.Errorf("%d log lines, want one", n)
	}
	live, err := c.Client.RbacV1().ClusterRoles().Get(c.Context, "rouse-control", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.Rules = role.Rules
	if _, err := c.Client.RbacV1().ClusterRoles().Update(c.Context, live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the request that waited meanwhile: %v", err)
	}
}

// TestRouseRightsAreFew: the account of control may do what the suite needs, which the other tests show, and not more.
func TestRouseRightsAreFew(t *testing.T) {
	c := install(t)
	as := c.As("rouse-control")
	for _, r := range []authorizationv1.ResourceAttributes{
		{Verb: "get", Resource: "secrets"}, {Verb: "list", Resource: "secrets"}, {Verb: "delete", Resource: "pods"}, {Verb: "create", Resource: "pods"},
		{Verb: "patch", Resource: "services"}, {Verb: "update", Resource: "services"}, {Verb: "create", Resource: "pods", Subresource: "exec"},
		{Verb: "patch", Group: "apps", Resource: "deployments"}, {Verb: "update", Group: "apps", Resource: "deployments"}, {Verb: "delete", Group: "apps", Resource: "deployments"},
		{Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale"}, {Verb: "patch", Resource: "nodes"}, {Verb: "get", Resource: "endpoints"},
		{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
		{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"}, {Verb: "get", Resource: "configmaps", Namespace: "kube-system"},
	} {
		review, err := as.AuthorizationV1().SelfSubjectAccessReviews().Create(c.Context, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &r}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			t.Errorf("control may %s %s/%s%s in %q: %s", r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, review.Status.Reason)
		}
	}
}
