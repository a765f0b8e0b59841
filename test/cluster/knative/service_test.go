package knative

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// column is which programs are in Knative's places.
type column struct{ name, activator, queue string }

// columns begin with the baseline: Knative with nothing of ours.
var columns = []column{
	{"theirs", "kn-activator", "kn-queue"},
	{"our queue-proxy", "kn-activator", "queueproxy"},
	{"our activator", "knativeactivator", "kn-queue"},
	{"both ours", "knativeactivator", "queueproxy"},
}

// on is the same installation for a part of the test, with a namespace of its own.
func (in *installation) on(t *testing.T) *installation {
	t.Helper()
	return &installation{Cluster: harness.New(t), t: t}
}

// use swaps the two images, as docs/knative.md says.
func (in *installation) use(c column) {
	in.t.Helper()
	in.configure("config-deployment", map[string]string{"queue-sidecar-image": "dev.local/" + c.queue + ":test"})
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"activator","image":"dev.local/%s:test"}]}}}}`, c.activator)
	if _, err := in.Client.AppsV1().Deployments(system).Patch(in.Context, "activator", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		in.t.Fatal(err)
	}
	in.rolledOut("activator")
	// Whoever makes a Service now gets the new queue-proxy: the controller has heard of it when it changes what it made before.
	canary := revision{name: "canary"}
	in.deploy(canary)
	in.awaitQueue(canary, c)
}

// revision is a Service of Knative's and its only revision, NAME-00001.
type revision struct {
	name        string
	annotations map[string]string
	concurrency int // 0: no limit
	timeout     int // seconds; 0: Knative's default
	args        []string
	port        string // http1 or h2c; "": http1
	probe       string // YAML in one line; "": Knative's default, TCP
	tokenless   bool   // its pods have no token of their ServiceAccount
}

func (r revision) String() string { return r.name + "-00001" }

func (r revision) manifest() string {
	annotations, err := json.Marshal(r.annotations)
	if err != nil || r.annotations == nil {
		annotations = []byte("{}")
	}
	args, err := json.Marshal(r.args)
	if err != nil || r.args == nil {
		args = []byte("[]")
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: %s}, spec: {template: {metadata: {annotations: %s}, spec: {containerConcurrency: %d, `,
		r.name, annotations, r.concurrency)
	if r.timeout > 0 {
		fmt.Fprintf(&b, "timeoutSeconds: %d, ", r.timeout)
	}
	if r.tokenless {
		b.WriteString("automountServiceAccountToken: false, ")
	}
	port, probe := "http1", ""
	if r.port != "" {
		port = r.port
	}
	if r.probe != "" {
		probe = ", readinessProbe: " + r.probe
	}
	fmt.Fprintf(&b, `containers: [{image: "dev.local/testapp:test", args: %s, ports: [{name: %s, containerPort: 8080}]%s}]}}}}`, args, port, probe)
	return b.String()
}

// deploy makes the Service and waits until Knative calls it ready.
func (in *installation) deploy(r revision) {
	in.t.Helper()
	in.Apply(r.manifest())
	in.Eventually(soon, "Service "+r.name+" is ready", func() error {
		u, err := in.Dynamic.Resource(ksvcs).Namespace(in.Namespace).Get(in.Context, r.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return isReady(u)
	})
}

func isReady(u *unstructured.Unstructured) error {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Ready" && c["status"] == "True" {
			return nil
		}
	}
	return fmt.Errorf("conditions %v (%w)", conditions, err)
}

// atZero says why a revision does not sleep: pods are asked for, or the activator isn't in the path.
func (in *installation) atZero(r revision) error {
	d, err := in.Client.AppsV1().Deployments(in.Namespace).Get(in.Context, r.String()+"-deployment", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if *d.Spec.Replicas != 0 || d.Status.Replicas != 0 {
		return fmt.Errorf("%d replicas wanted, %d there", *d.Spec.Replicas, d.Status.Replicas)
	}
	return in.inMode(r, "Proxy")
}

// inMode says whether requests go to activators (Proxy) or to pods (Serve).
func (in *installation) inMode(r revision, want string) error {
	s, err := in.Dynamic.Resource(sks).Namespace(in.Namespace).Get(in.Context, r.String(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	mode, _, err := unstructured.NestedString(s.Object, "spec", "mode")
	if err == nil && mode != want {
		err = fmt.Errorf("mode %q, want %s", mode, want)
	}
	return err
}

func (in *installation) awaitZero(r revision) {
	in.t.Helper()
	in.Eventually(2*time.Minute, r.String()+" sleeps", func() error { return in.atZero(r) })
}

// header is what Knative's router sends with each request.
func (in *installation) header(r revision) http.Header {
	return http.Header{"Knative-Serving-Namespace": {in.Namespace}, "Knative-Serving-Revision": {r.String()}}
}

// url is the revision's public Service, where a router sends to: the activators or the pods are behind it.
func (in *installation) url(r revision) string {
	in.t.Helper()
	if r.port == "h2c" {
		return in.URL(r.String(), 81)
	}
	return in.URL(r.String(), 80)
}

// ask sends one request on a connection of its own, and waits up to a minute.
func (in *installation) ask(r revision, base, path string) (harness.Response, error) {
	ctx, cancel := context.WithTimeout(in.Context, time.Minute)
	defer cancel()
	return harness.Send(ctx, http.MethodGet, base+path, in.header(r), nil)
}

// must is ask for an answer with this status.
func (in *installation) must(r revision, path string, status int) harness.Response {
	in.t.Helper()
	resp, err := in.ask(r, in.url(r), path)
	if err != nil || resp.Status != status {
		in.t.Fatalf("GET %s of %s: status %d %q (%v), want %d", path, r, resp.Status, resp.Body, err, status)
	}
	return resp
}

// pods are the revision's that are not being deleted.
func (in *installation) pods(r revision) []corev1.Pod {
	in.t.Helper()
	return alive(in.Pods("serving.knative.dev/revision=" + r.String()))
}

// activators are the addresses of those that are not being deleted.
func (in *installation) activators() (urls []string) {
	in.t.Helper()
	list, err := in.Client.CoreV1().Pods(system).List(in.Context, metav1.ListOptions{LabelSelector: "app=activator"})
	if err != nil {
		in.t.Fatal(err)
	}
	for _, p := range alive(list.Items) {
		urls = append(urls, "http://"+p.Status.PodIP+":8012")
	}
	return urls
}

func alive(pods []corev1.Pod) (those []corev1.Pod) {
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			those = append(those, p)
		}
	}
	return those
}
