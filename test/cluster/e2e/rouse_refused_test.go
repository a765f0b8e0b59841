package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// refuseScale makes the cluster refuse more than no pod for the test's workloads, and returns how to end that.
func refuseScale(t *testing.T, c *harness.Cluster) (end func()) {
	t.Helper()
	api, name := c.Client.AdmissionregistrationV1(), c.Namespace
	rule := admissionregistrationv1.RuleWithOperations{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
		Rule: admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments/scale"}}}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": c.Namespace}},
			ResourceRules:     []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule}}},
		Validations: []admissionregistrationv1.Validation{{Expression: "object.spec.replicas == 0", Message: "nobody works today"}},
	}}
	if _, err := api.ValidatingAdmissionPolicies().Create(c.Context, policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}}
	if _, err := api.ValidatingAdmissionPolicyBindings().Create(c.Context, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = api.ValidatingAdmissionPolicyBindings().Delete(c.Context, name, metav1.DeleteOptions{})
		_ = api.ValidatingAdmissionPolicies().Delete(c.Context, name, metav1.DeleteOptions{})
	}
	t.Cleanup(end)
	c.Eventually(time.Minute, "the policy is in force", func() error {
		dry := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
		_, err := c.Client.AppsV1().Deployments(c.Namespace).Patch(c.Context, "hello", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), dry, "scale")
		if err == nil || !strings.Contains(err.Error(), "nobody works today") {
			return fmt.Errorf("a scale is answered %w", err)
		}
		return nil
	})
	return end
}

// TestRouseBesideAPolicy: a scale that somebody's policy denies is said once, with the policy's words, and what waits meanwhile is
// answered when the policy is gone.
func TestRouseBesideAPolicy(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	end := refuseScale(t, c)
	answered := make(chan error, 1)
	go func() {
		r, err := harness.Send(c.Context, "GET", url+"/", nil, nil)
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		answered <- err
	}()
	c.Eventually(30*time.Second, "the refusal is said", func() error {
		list, err := c.Client.CoreV1().Events(c.Namespace).List(c.Context, metav1.ListOptions{FieldSelector: "involvedObject.name=hello,reason=ScaleDenied"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 || !strings.Contains(list.Items[0].Message, "nobody works today") {
			return fmt.Errorf("Events %+v", list.Items)
		}
		return nil
	})
	lasting(c, 5*time.Second)
	for reason, want := range map[string]int{"ScaleDenied": 1, "PermissionDenied": 0} {
		if n := events(t, c, "hello", reason); n != want {
			t.Errorf("%d Events %s, want %d", n, reason, want)
		}
	}
	end()
	if err := <-answered; err != nil {
		t.Errorf("the request that waited meanwhile: %v", err)
	}
}

// TestRouseAnotherRangeOfPorts: control with another ROUSE_ACTIVATOR_PORTS moves a Service to a port of it, and no request fails.
func TestRouseAnotherRangeOfPorts(t *testing.T) {
	c := install(t)
	c.Apply(hello(1, "", `min-scale: "1"`, `target-burst-capacity: "-1"`))
	c.WaitDeployment("hello", 1)
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"autoscaler","env":[{"name":"ROUSE_ACTIVATOR_PORTS","value":"12000-12099"}]}]}}}}`
	if _, err := c.Client.AppsV1().StatefulSets(c.Namespace).Patch(c.Context, "autoscaler", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(3*time.Minute, "the Service leads to a port of the new range", func() error {
		if r := c.Get(url + "/"); r.Status != 200 {
			t.Errorf("a request meanwhile: %d %q", r.Status, r.Body)
		}
		if err := rolled(c, "autoscaler"); err != nil { // until then an instance of the former range may move it back
			return err
		}
		list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=hello"})
		if err != nil {
			return err
		}
		for _, s := range list.Items {
			if len(s.Ports) != 1 || *s.Ports[0].Port < 12000 || *s.Ports[0].Port > 12099 {
				return fmt.Errorf("slice %s has ports %v", s.Name, s.Ports)
			}
		}
		former, present := 0, 0
		for port, holder := range portBook(t, c) {
			n, err := strconv.Atoi(port)
			switch released := strings.Contains(holder, " released "); {
			case err != nil || !strings.HasPrefix(holder, c.Namespace+"/hello/"):
			case n >= 20000 && released:
				former++
			case n < 20000 && !released:
				present++
			}
		}
		if former != 1 || present != 1 {
			return fmt.Errorf("the book says %v, want a port of the new range, and the former one in quarantine", portBook(t, c))
		}
		return nil
	})
	for range 20 {
		if r := c.Get(url + "/"); r.Status != 200 {
			t.Errorf("a request afterwards: %d %q", r.Status, r.Body)
		}
	}
}

// rolled says why a StatefulSet's pods are not all of its newest template.
func rolled(c *harness.Cluster, name string) error {
	set, err := c.Client.AppsV1().StatefulSets(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if s := set.Status; s.ObservedGeneration != set.Generation || s.UpdatedReplicas != *set.Spec.Replicas || s.ReadyReplicas != *set.Spec.Replicas {
		return fmt.Errorf("%d of %d pods of %s are new, %d ready", s.UpdatedReplicas, *set.Spec.Replicas, name, s.ReadyReplicas)
	}
	return nil
}
