package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// operator runs rouse as an account that has the rights which docs/kubernetes.md names, and no others.
type operator struct {
	t *testing.T
	*harness.Cluster
	kubeconfig string
}

// newOperator makes the account and its rights.
func newOperator(t *testing.T, c *harness.Cluster) *operator {
	t.Helper()
	c.Apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: operator}\n---\n" + documented(t))
	bind := "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}\n" +
		"subjects: [{kind: ServiceAccount, name: operator, namespace: %s}]\n"
	for role, kind := range map[string]string{"rouse-viewer": "RoleBinding", "rouse-viewer-system": "RoleBinding", "rouse-viewer-cluster": "ClusterRoleBinding"} {
		c.Apply(fmt.Sprintf(bind, kind, role, role, c.Namespace))
	}
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate = "system:serviceaccount:" + c.Namespace + ":operator"
	}
	o := &operator{t, c, filepath.Join(t.TempDir(), "config")}
	if err := clientcmd.WriteToFile(*config, o.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return o
}

// documented returns the roles of docs/kubernetes.md.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "rouse-viewer") {
			return block[1]
		}
	}
	t.Fatal("docs/kubernetes.md names no rights")
	return ""
}

// rouse runs a command and returns what it printed and its exit code.
func (o *operator) rouse(args ...string) (string, int) {
	args = append(args, "--kubeconfig", o.kubeconfig, "-n", o.Namespace, "--system-namespace", o.Namespace)
	out, err := rouse(o.Cluster, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, exit.ExitCode()
	}
	if err != nil {
		o.t.Fatalf("rouse %q: %v", args, err)
	}
	return out, 0
}

// shows waits until a command ends with a code and prints every part.
func (o *operator) shows(command string, code int, parts ...string) {
	o.t.Helper()
	var last string
	o.Eventually(60*time.Second, fmt.Sprintf("rouse %s ends with %d and says %q", command, code, parts), func() error {
		out, got := o.rouse(strings.Fields(command)...)
		last = out
		if got != code {
			return fmt.Errorf("exit code %d: %s", got, out)
		}
		for _, p := range parts {
			if !regexp.MustCompile("(?m)" + p).MatchString(out) {
				return fmt.Errorf("%q is missing in: %s", p, out)
			}
		}
		return nil
	})
	o.t.Logf("rouse %s\n%s", command, last)
}

// TestRouseCommands: check, status, top and explain with a workload at zero, under load, and when something is broken.
func TestRouseCommands(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	o := newOperator(t, c)
	about := "Deployment " + c.Namespace + "/hello"

	o.shows("check", 0, "^ok +API server: v1", "^ok +control: 2 of 2 ready", "^ok +activators: 2 of 2 ready", `^ok +rights of rouse-control: all \d+ are granted`,
		"^ok +activators' streams: 2 activators are connected to each of 2", "^ok +shares: 16 buckets are held by autoscaler-0, autoscaler-1",
		`^ok +activators' ports: [1-9]\d* of 10000`, // also those of workloads of the test before, which are going
		"^ok +settings config-autoscaler: good", "^ok +workload "+about+": 0 of 0 pods ready, Service hello leads to 2 activators",
		"^note +NetworkPolicy "+about+".*8080", " 0 failures, 0 not asked$")
	o.shows("status", 0, `^NAMESPACE +NAME +KIND +READY/WANTED +MODE +SERVICE +PORT-ON-ACTIVATORS +DECIDED-BY +AGE +REASON$`,
		`^`+c.Namespace+` +hello +Deployment +0/0 +activators +hello +2\d{4} +autoscaler-[01] +\d+s +-$`)
	o.shows("explain hello", 0, "^"+c.Namespace+"/hello ", "^  pods       0 ready, 0 starting", "^  decided    by autoscaler-[01]: ")

	load(t, c, url, func() {
		o.shows("top", 0, `^`+c.Namespace+` +hello +[1-9][0-9.]* +[1-9][0-9.]* +[0-9.]+ +[1-9]\d*/[1-9]\d* +concurrency `)
		o.shows("status", 0, `hello +Deployment +[1-9]\d*/[1-9]`)
		o.shows("explain hello", 0, "^  pods       [1-9]")
		o.shows("check", 0, "^ok +workload "+about+": [1-9]")
	})

	o.breaks(about)
}

// load runs a client against the Service while check does its work; no request may fail.
func load(t *testing.T, c *harness.Cluster, url string, check func()) {
	t.Helper()
	ctx, stop := context.WithCancel(c.Context)
	var client sync.WaitGroup
	client.Go(func() {
		l := harness.Load{URL: url + "/sleep?for=200ms", Rate: 20, KeepAlive: true}
		if r := l.Run(ctx); len(r.Failures) > 0 || r.Sent == 0 {
			t.Errorf("%d requests, %d failed, such as %s", r.Sent, len(r.Failures), r.Failures)
		}
	})
	check()
	stop()
	client.Wait()
}

// breaks takes one thing away after the other, and looks what check says.
func (o *operator) breaks(about string) {
	c := o.Cluster
	restore := o.withoutRule("rouse-control", "events")
	o.shows("check", 1, "^failure +rights of rouse-control: it may not create events, which ClusterRole rouse-control should allow; remedy: rouse install")
	restore()

	o.patchService(`{"spec":{"selector":{"app":"hello"}}}`)
	o.shows("check", 1, "^failure +workload "+about+": ServiceHasSelector: .*rouse adopt hello")
	o.shows("status", 0, `hello +Deployment .* ServiceHasSelector$`)
	o.patchService(`{"spec":{"selector":null}}`)
	o.shows("check", 0, " 0 failures, 0 not asked$")

	restore = o.withoutRule("rouse-viewer-system", "pods/proxy")
	o.shows("check", 2, "^unknown +activators' streams: .*you need the right to get pods/proxy in "+c.Namespace)
	o.shows("top", 1, "you need the right to get pods/proxy in "+c.Namespace)
	restore()

	file := filepath.Join(o.t.TempDir(), "app.yaml")
	manifest := regexp.MustCompile("{{.*?}}").ReplaceAllString(hello(0, "selector: {app: hello},"), "x")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		o.t.Fatal(err)
	}
	out, err := rouse(c, "check", "-o", "json", "-f", file)
	var report struct {
		Findings []struct{ Level, About, Text string }
	}
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil || err == nil {
		o.t.Fatalf("rouse check -f: %v, %v\n%s", err, jsonErr, out)
	}
	if f := report.Findings; len(f) != 2 || f[0].Level != "failure" || !strings.HasPrefix(f[0].About, file+":2 Deployment") || !strings.Contains(f[0].Text, "ServiceHasSelector") ||
		f[1].Level != "warning" || !strings.HasPrefix(f[1].Text, "spec.replicas is 0") {
		o.t.Errorf("rouse check -f says %+v", f)
	}
}

func (o *operator) patchService(patch string) {
	o.t.Helper()
	if _, err := o.Client.CoreV1().Services(o.Namespace).Patch(o.Context, "hello", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		o.t.Fatal(err)
	}
}

// withoutRule takes the rules about a resource out of a ClusterRole, and returns what puts them back.
func (o *operator) withoutRule(role, resource string) (restore func()) {
	o.t.Helper()
	var before []rbacv1.PolicyRule
	change := func(rules func([]rbacv1.PolicyRule) []rbacv1.PolicyRule) {
		live, err := o.Client.RbacV1().ClusterRoles().Get(o.Context, role, metav1.GetOptions{})
		if err != nil {
			o.t.Fatal(err)
		}
		live.Rules = rules(live.Rules)
		if _, err := o.Client.RbacV1().ClusterRoles().Update(o.Context, live, metav1.UpdateOptions{}); err != nil {
			o.t.Fatal(err)
		}
	}
	change(func(all []rbacv1.PolicyRule) (kept []rbacv1.PolicyRule) {
		before = all
		for _, r := range all {
			if r.Resources[0] != resource {
				kept = append(kept, r)
			}
		}
		return kept
	})
	return func() { change(func([]rbacv1.PolicyRule) []rbacv1.PolicyRule { return before }) }
}
