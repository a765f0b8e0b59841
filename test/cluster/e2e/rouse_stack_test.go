package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// long returns the measure of the tests' full form, or of the one that every change goes through.
func long[T any](short, full T) T {
	if harness.Full() {
		return full
	}
	return short
}

// system is Rouse in the test's namespace: two instances of control with the rights of deploy/base, two activators.
const system = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler}
data: {stable-window: 6s, scale-to-zero-grace-period: 6s}
---
apiVersion: v1
kind: Service
metadata: {name: autoscaler}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: autoscaler}
  ports: [{name: stats, port: 8080}, {name: assign, port: 8081}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: autoscaler}
spec:
  replicas: 2
  serviceName: autoscaler
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: autoscaler}}
  template:
    metadata: {labels: {app: autoscaler}}
    spec:
      serviceAccountName: rouse-control
      containers:
      - name: autoscaler
        image: {{image "autoscaler"}}
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: SYSTEM_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: ROUSE_LOG_LEVEL, value: debug}
        readinessProbe: {httpGet: {path: /readyz, port: 9090}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: activator}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: activator}}
  template:
    metadata: {labels: {app: activator}}
    spec:
      terminationGracePeriodSeconds: 60
      containers:
      - name: activator
        image: {{image "activator"}}
        env:
        - {name: ROUSE_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: ROUSE_ADDRESS, value: "$(POD_IP):8080"}
        - {name: ROUSE_CONTROL_URLS, value: "ws://autoscaler-0.autoscaler.{{.Namespace}}.svc.cluster.local:8081,ws://autoscaler-1.autoscaler.{{.Namespace}}.svc.cluster.local:8081"}
        - {name: ROUSE_STATS_URLS, value: "ws://autoscaler-0.autoscaler.{{.Namespace}}.svc.cluster.local:8080,ws://autoscaler-1.autoscaler.{{.Namespace}}.svc.cluster.local:8080"}
        - {name: ROUSE_SERVER_TIMING, value: "true"}
        readinessProbe: {httpGet: {path: /readyz, port: 9090}, periodSeconds: 1}
`

// workload is an annotated Deployment behind a queue-proxy, with its Service; %s are annotations, replicas and selector.
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
  annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev%s}
spec:
  replicas: %d
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 40
      containers:
      - name: user
        image: {{image "testapp"}}
        args: [-journal, /shared/hello]
        ports: [{containerPort: 8080}]
        volumeMounts: [{name: shared, mountPath: /shared}]
        lifecycle: {preStop: {httpGet: {path: /wait-for-drain, port: 8022}}}
      initContainers:
      - name: queue-proxy
        image: {{image "queueproxy"}}
        restartPolicy: Always
        ports: [{name: queue-port, containerPort: 8012}]
        readinessProbe: {httpGet: {port: 8012, path: /, httpHeaders: [{name: K-Network-Probe, value: queue}]}, periodSeconds: 1}
        lifecycle: {preStop: {httpGet: {path: /drain, port: 8022}}}
        env:
        - {name: CONTAINER_CONCURRENCY, value: "0"}
        - {name: QUEUE_SERVING_PORT, value: "8012"}
        - {name: USER_PORT, value: "8080"}
        - {name: REVISION_TIMEOUT_SECONDS, value: "30"}
        - {name: SERVING_READINESS_PROBE, value: '{"httpGet":{"path":"/ready","port":8080},"successThreshold":1}'}
        - {name: SERVING_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: SERVING_CONFIGURATION, value: hello}
        - {name: SERVING_REVISION, value: hello}
        - {name: SERVING_POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: SERVING_POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: ROUSE_STATS_URL, value: "ws://autoscaler.{{.Namespace}}.svc.cluster.local:8080"}
      volumes: [{name: shared, hostPath: {path: {{shared}}}}]
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {%s ports: [{name: http, port: 80, targetPort: 8080}]}
`

// hello fills in workload; annotations are "name: value" with the prefix left out.
func hello(replicas int, selector string, annotations ...string) string {
	var b strings.Builder
	for _, a := range annotations {
		fmt.Fprintf(&b, ", autoscaling.knative.dev/%s", a)
	}
	return fmt.Sprintf(workload, b.String(), replicas, selector)
}

// install brings Rouse up in a namespace of its own, with exactly the rights that an installation gets.
func install(t *testing.T) *harness.Cluster {
	t.Helper()
	c := harness.New(t)
	access, err := os.ReadFile("../../../deploy/base/10-access.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(strings.ReplaceAll(string(access), "rouse-system", c.Namespace))
	c.Apply(system)
	c.WaitDeployment("activator", 2)
	return c
}

// behind says what is behind the Service hello: "pods", "activators", both or "".
func behind(c *harness.Cluster) (string, error) {
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello"})
	if err != nil {
		return "", err
	}
	seen := map[string]bool{}
	for _, s := range list.Items {
		kind := s.Labels["rouse.dev/backend"]
		if kind == "" {
			kind = "foreign " + s.Labels[discoveryv1.LabelManagedBy]
		}
		seen[kind] = seen[kind] || len(s.Endpoints) > 0
	}
	var all []string
	for _, kind := range []string{"pods", "activators", "foreign endpointslice-controller.k8s.io"} {
		if seen[kind] {
			all = append(all, kind)
		}
	}
	return strings.Join(all, "+"), nil
}

func waitBehind(t *testing.T, c *harness.Cluster, want string) {
	t.Helper()
	c.Eventually(90*time.Second, "the Service leads to "+want, func() error {
		got, err := behind(c)
		if err == nil && got != want {
			err = fmt.Errorf("it leads to %q", got)
		}
		return err
	})
}

// waitReachable waits until kube-proxy has heard of the Service.
func waitReachable(c *harness.Cluster) string {
	url := c.URL("hello", 80)
	c.Eventually(30*time.Second, "the Service's address answers", func() error { return c.Reach(url) })
	return url
}

// underLoad runs four clients without retries against the Service, 200 requests a second together, while fault does its
// work, and for a moment after. No request may fail, and no application may see one twice.
func underLoad(t *testing.T, c *harness.Cluster, url string, fault func()) {
	t.Helper()
	underLoadOf(t, c, url+"/sleep?for=5ms", fault)
}

// underLoadOf is underLoad with requests to any address.
func underLoadOf(t *testing.T, c *harness.Cluster, url string, fault func()) {
	t.Helper()
	ctx, stop := context.WithCancel(c.Context)
	var clients sync.WaitGroup
	var mu sync.Mutex
	var failures []harness.Failure
	sent := 0
	for _, l := range []harness.Load{
		{KeepAlive: true}, {KeepAlive: false}, {KeepAlive: true, Method: "POST", Body: []byte(strings.Repeat("x", 3000))}, {Method: "POST", Body: []byte("x")},
	} {
		l.URL, l.Rate, l.Prefix = url, 50, fmt.Sprintf("%s-%v-%s-%d", l.Method, l.KeepAlive, t.Name(), time.Now().UnixNano())
		clients.Go(func() {
			r := l.Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			sent += r.Sent
			failures = append(failures, r.Failures...)
		})
	}
	fault()
	stop()
	clients.Wait()
	t.Logf("%d requests, %d failed", sent, len(failures))
	for i, f := range failures[:min(len(failures), 10)] {
		t.Errorf("failure %d: %s", i, f)
	}
	if sent == 0 {
		t.Error("nothing was sent")
	}
	if twice := c.Twice("hello"); len(twice) > 0 {
		t.Errorf("%d requests reached an application twice, such as %s", len(twice), twice[0])
	}
}

// annotate changes settings of hello while it runs.
func annotate(t *testing.T, c *harness.Cluster, name, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"autoscaling.knative.dev/%s":%q}}}`, name, value)
	if _, err := c.Client.AppsV1().Deployments(c.Namespace).Patch(c.Context, "hello", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// lasting blocks while time passes; faults are spread over it.
func lasting(c *harness.Cluster, d time.Duration) {
	c.Never(d, "", func() error { return nil })
}
