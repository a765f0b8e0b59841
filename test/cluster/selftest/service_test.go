package selftest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: {{image "testapp"}}
        volumeMounts: [{name: shared, mountPath: /shared}]
        args: [-journal, /shared/web]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
      volumes: [{name: shared, hostPath: {path: {{shared}}}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// tester is a pod that does nothing, to run commands in: its programs are the node's.
const tester = `
apiVersion: v1
kind: Pod
metadata: {name: tester, labels: {app: tester}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: sh, image: local/host, command: [sleep, infinity]}
`

func ready(n int) func(*harness.Cluster, string) error {
	return func(c *harness.Cluster, service string) error {
		got := 0
		for _, e := range c.Endpoints(service) {
			if *e.Conditions.Ready {
				got++
			}
		}
		if got != n {
			return fmt.Errorf("%d ready endpoints, want %d", got, n)
		}
		return nil
	}
}

func TestClusterIPFromNodeAndPod(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(web, 2) + "---" + tester)
	c.WaitDeployment("web", 2)
	c.Eventually(10*time.Second, "both pods answer by ClusterIP", func() error {
		names := make(map[string]bool)
		for range 20 {
			r, err := harness.Send(c.Context, "GET", c.URL("web", 80), nil, nil)
			if err != nil {
				return err
			}
			names[r.Body] = true
		}
		if len(names) != 2 {
			return fmt.Errorf("answers from %v", names)
		}
		return nil
	})
	c.WaitPod("tester", "runs", 30*time.Second, harness.Ready)
	// The name server's watch may be in its back-off: another test stops the API server.
	c.Eventually(time.Minute, "a pod reaches it by name", func() error {
		out, err := c.Kubectl("exec", "tester", "--", "bash", "-c", `exec 3<>/dev/tcp/web/80; printf 'GET /from-pod HTTP/1.0\r\n\r\n' >&3; cat <&3`)
		if err != nil || !strings.Contains(out, "200 OK") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	own := c.Pods("app=web")[0]
	out, err := c.Kubectl("exec", own.Name, "--", "bash", "-c", `for i in 1 2 3 4 5 6 7 8; do exec 3<>/dev/tcp/web/80; printf 'GET /self HTTP/1.0\r\n\r\n' >&3; cat <&3; done`)
	if err != nil || strings.Count(out, "200 OK") != 8 || !strings.Contains(out, own.Name) {
		t.Errorf("a pod of the Service itself, which meets itself: %v\n%s", err, out)
	}
}

func TestScaleUpAndDown(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(web, 0))
	c.WaitDeployment("web", 0)
	c.Scale("web", 20)
	c.WaitDeployment("web", 20)
	c.Eventually(10*time.Second, "the slice follows", func() error { return ready(20)(c, "web") })
	c.Scale("web", 0)
	c.Eventually(10*time.Second, "the slice follows", func() error { return ready(0)(c, "web") })
	c.WaitGone("app=web", 30*time.Second)
	if n := strings.Count(fmt.Sprint(c.Journal("web")), "sigterm"); n != 20 {
		t.Errorf("%d of 20 pods were asked to stop", n)
	}
}

func TestSlicesReachProxyLate(t *testing.T) {
	c := harness.New(t)
	c.Apply(fmt.Sprintf(web, 1) + "---" + tester)
	c.WaitDeployment("web", 1)
	c.Eventually(10*time.Second, "the first pod answers", func() error { return c.Reach(c.URL("web", 80)) })
	const delay = 3 * time.Second
	c.DelaySlices(delay)
	first := c.Pods("app=web")[0].Name
	if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, first, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(20*time.Second, "the slice has the new pod", func() error {
		for _, e := range c.Endpoints("web") {
			if e.TargetRef.Name != first && *e.Conditions.Ready {
				return nil
			}
		}
		return fmt.Errorf("endpoints %v", c.Endpoints("web"))
	})
	published := time.Now()
	c.WaitPodGone(first, 20*time.Second) // until then it may answer
	c.Eventually(20*time.Second, "kube-proxy follows", func() error { return c.Reach(c.URL("web", 80)) })
	if took := time.Since(published); took < delay-500*time.Millisecond { // the slice was published before the test saw it
		t.Errorf("kube-proxy followed after %v, want about %v", took, delay)
	}
}

const named = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: peers
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: app, image: {{image "testapp"}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: 8080}]}
`

func TestNames(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(named + "---" + tester)
	c.WaitPod("tester", "runs", 30*time.Second, harness.Ready)
	c.WaitPod("db-1", "runs", 30*time.Second, harness.Ready)
	front, err := c.Client.CoreV1().Services(c.Namespace).Get(c.Context, "front", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	both := []string{c.Pod("db-0").Status.PodIP, c.Pod("db-1").Status.PodIP}
	for name, want := range map[string][]string{
		"front":                {front.Spec.ClusterIP},
		"front." + c.Namespace: {front.Spec.ClusterIP},
		"kubernetes.default":   {apiServer(c)},
		"peers":                both,
		"db-1.peers":           both[1:],
		"db-1.peers." + c.Namespace + ".svc.cluster.local": both[1:],
	} {
		c.Eventually(10*time.Second, name+" resolves", func() error {
			out, err := c.Kubectl("exec", "tester", "--", "getent", "ahosts", name)
			for _, ip := range want {
				if err == nil && !strings.Contains(out, ip+" ") {
					err = fmt.Errorf("want %v, got %s", want, out)
				}
			}
			return err
		})
	}
	if out, err := c.Kubectl("exec", "tester", "--", "getent", "ahosts", "nobody.here"); err == nil {
		t.Errorf("nobody.here resolves to %s, want nothing", out)
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default}]
`)
	account := c.As("default")
	c.Eventually(10*time.Second, "the role counts", func() error {
		_, err := account.CoreV1().Pods(c.Namespace).List(c.Context, metav1.ListOptions{})
		return err
	})
	if _, err := account.CoreV1().Secrets(c.Namespace).List(c.Context, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want forbidden", err)
	}
	if _, err := account.CoreV1().Pods("default").List(c.Context, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list pods elsewhere: %v, want forbidden", err)
	}
}

func TestAPIServerAway(t *testing.T) {
	c := harness.New(t)
	c.Apply(fmt.Sprintf(web, 1))
	c.WaitDeployment("web", 1)
	url := c.URL("web", 80)
	c.Eventually(10*time.Second, "the pod answers", func() error { return c.Reach(url) })
	c.Stop(harness.APIServer)
	if _, err := c.Client.CoreV1().Namespaces().List(c.Context, metav1.ListOptions{}); err == nil {
		t.Fatal("the API server answers after its end")
	}
	c.Never(2*time.Second, "pods and routes stay", func() error { return c.Reach(url) })
	c.Start(harness.APIServer)
	c.Scale("web", 2)
	c.WaitDeployment("web", 2)
	// Watches come back one by one, as their back-off ends: other tests need that of the name server.
	c.Apply(`{apiVersion: v1, kind: Service, metadata: {name: later}, spec: {selector: {app: web}, ports: [{port: 80}]}}`)
	c.Eventually(time.Minute, "a Service that was made since resolves", func() error {
		out, err := c.Kubectl("exec", c.Pods("app=web")[0].Name, "--", "getent", "ahosts", "later")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func TestNodeLease(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	lease, err := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(c.Context, "node1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *lease.Spec.LeaseDurationSeconds != 40 || time.Since(lease.Spec.RenewTime.Time) > 40*time.Second {
		t.Errorf("lease of %d s, renewed at %v: want kubelet's 40 s, kept alive", *lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime)
	}
}
