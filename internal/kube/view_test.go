package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// api is an API server that answers a path with YAML, 404 for those it does not know, and 403 where the answer is "forbidden".
func api(t *testing.T, answers map[string]string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text, ok := answers[r.URL.Path]
		refuse := func(code int, reason metav1.StatusReason) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: reason, Message: "no way to " + r.URL.Path, Code: int32(code)})
		}
		switch {
		case !ok:
			refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
		case text == "forbidden":
			refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
		default:
			body, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Errorf("%s: %v", r.URL.Path, err)
			}
			_, _ = w.Write(body)
		}
	}))
	t.Cleanup(s.Close)
	c, err := ConnectTo(Target{Files: []string{kubeconfig(t, s.URL)}, Context: "other", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kubeconfig has a current context that leads nowhere, and one named other.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: dead, cluster: {server: "http://192.0.2.1"}}, {name: live, cluster: {server: %q}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: dead, user: u}}, {name: other, context: {cluster: live, user: u, namespace: shop}}]
current-context: x
`, server)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConnectTo(t *testing.T) {
	file := kubeconfig(t, "http://192.0.2.2")
	for _, tc := range []struct {
		name      string
		target    Target
		namespace string
		fault     string
	}{
		{"the current context", Target{Files: []string{file}}, "default", ""},
		{"another context", Target{Files: []string{file}, Context: "other"}, "shop", ""},
		{"several files, one of them missing", Target{Files: []string{"/nonexistent", file}, Context: "other"}, "shop", ""},
		{"no such context", Target{Files: []string{file}, Context: "west"}, "", `context "west" does not exist`},
		{"no such file", Target{Files: []string{"/nonexistent/config"}}, "", "/nonexistent/config"},
		{"neither a file nor a pod", Target{}, "", "set KUBECONFIG"},
	} {
		c, err := ConnectTo(tc.target)
		switch {
		case tc.fault != "":
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("%s: %v, want %s", tc.name, err, tc.fault)
			}
		case err != nil || c.Namespace() != tc.namespace:
			t.Errorf("%s: %v, want namespace %s", tc.name, err, tc.namespace)
		}
	}
}

const shopDeployments = `
kind: DeploymentList
apiVersion: apps/v1
items:
- metadata: {name: hello, namespace: shop, uid: u1, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}
  spec:
    replicas: 2
    template:
      metadata: {labels: {app: hello}}
      spec: {containers: [{name: user, ports: [{name: web, containerPort: 8080}]}]}
  status: {readyReplicas: 1}
- metadata: {name: other, namespace: shop}
`

const shopServices = `
kind: ServiceList
apiVersion: v1
items:
- metadata: {name: hello, namespace: shop, uid: s1}
  spec: {clusterIP: 10.96.0.9, ipFamilies: [IPv4], ports: [{name: http, port: 80, targetPort: web, nodePort: 31000}]}
`

const shopSlices = `
kind: EndpointSliceList
apiVersion: discovery.k8s.io/v1
items:
- metadata: {name: hello-rouse-0, namespace: shop, labels: {kubernetes.io/service-name: hello, endpointslice.kubernetes.io/managed-by: control.rouse.dev, rouse.dev/backend: pods}}
  addressType: IPv4
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: [10.88.0.1], targetRef: {kind: Pod, name: hello-1, uid: p1}}]
- metadata: {name: hello-left, namespace: shop, labels: {kubernetes.io/service-name: hello, endpointslice.kubernetes.io/managed-by: someone}}
  addressType: IPv4
`

const shopPods = `
kind: PodList
apiVersion: v1
items:
- metadata: {name: hello-1, namespace: shop, uid: p1, labels: {app: hello, pod-template-hash: abc}, ownerReferences: [{kind: ReplicaSet, name: hello-abc, controller: true, apiVersion: apps/v1, uid: r}]}
  spec: {containers: [{name: user, ports: [{name: web, containerPort: 8080}]}]}
  status: {phase: Running, podIPs: [{ip: 10.88.0.1}], conditions: [{type: Ready, status: "True"}]}
`

const shopPolicies = `
kind: NetworkPolicyList
apiVersion: networking.k8s.io/v1
items:
- metadata: {name: only-rouse, namespace: shop}
  spec: {podSelector: {matchLabels: {app: hello}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}
`

func shop() map[string]string {
	empty := func(kind string) string { return "{kind: " + kind + ", items: []}" }
	return map[string]string{
		"/apis/apps/v1/namespaces/shop/deployments":                     shopDeployments,
		"/apis/apps/v1/namespaces/shop/statefulsets":                    empty("StatefulSetList"),
		"/api/v1/namespaces/shop/services":                              shopServices,
		"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices":      shopSlices,
		"/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers": "forbidden",
		"/api/v1/namespaces/shop/pods":                                  shopPods,
		"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies":    shopPolicies,
		"/api/v1/namespaces/shop/pods/autoscaler-0:9090/proxy/explain":  "[]",
		"/api/v1/namespaces/shop/pods/autoscaler-1:9090/proxy/explain":  "forbidden",
		"/version":      "{major: '1', minor: '36', gitVersion: v1.36.3}",
		"/apis/apps/v1": "{kind: APIResourceList, groupVersion: apps/v1, resources: [{name: deployments, kind: Deployment}]}",
		"/apis/authorization.k8s.io/v1/subjectaccessreviews":     "{kind: SubjectAccessReview, apiVersion: authorization.k8s.io/v1, status: {allowed: true}}",
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": "{kind: SelfSubjectAccessReview, apiVersion: authorization.k8s.io/v1, status: {allowed: false}}",
	}
}

func TestView(t *testing.T) {
	v, err := api(t, shop()).View(t.Context(), "shop", true)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Unread) != 1 || !Refused(v.Unread[KindAutoscalers]) {
		t.Errorf("not read: %v, want what is forbidden, and not what has no API", v.Unread)
	}
	if diff := cmp.Diff([]NodePort{{"shop/hello", 31000}}, v.NodePorts); diff != "" {
		t.Errorf("node ports: %s", diff)
	}
	all := v.Seen(config.DefaultAutoscaler())
	if len(all) != 1 {
		t.Fatalf("%d workloads, want the annotated one", len(all))
	}
	s := all[0]
	if s.Name != "hello" || s.Ready != 1 || s.Replicas != 2 || !s.Bound || s.Service.Name != "hello" || len(s.Problems) != 0 {
		t.Errorf("seen %+v", s)
	}
	at := netip.MustParseAddr("10.88.0.1")
	ports := []sliceplan.Port{{Name: "http", Number: 8080}}
	if diff := cmp.Diff([]SeenPod{{"hello-1", "p1", []netip.Addr{at}, true, ports}}, s.Pods, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("pods: %s", diff)
	}
	if len(s.Slices) != 2 || !s.Slices[0].Ours || s.Slices[0].Backend != sliceplan.Pods || s.Slices[0].Endpoints[0].UID != "p1" || s.Slices[1].Ours || s.Slices[1].Writer != "someone" {
		t.Errorf("slices: %+v", s.Slices)
	}
	if diff := cmp.Diff(Guard{Known: true, Port: 8080, Policies: []string{"only-rouse"}}, s.Guard); diff != "" {
		t.Errorf("guard: %s", diff)
	}
	if diff := cmp.Diff([]ServicePort{{"http", portalloc.Holder("shop/hello/http"), true}}, s.Ports); diff != "" {
		t.Errorf("ports: %s", diff)
	}
}

func TestViewNeedsItsKinds(t *testing.T) {
	for _, path := range []string{"/apis/apps/v1/namespaces/shop/deployments", "/api/v1/namespaces/shop/services", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"} {
		answers := shop()
		answers[path] = "forbidden"
		if _, err := api(t, answers).View(t.Context(), "shop", false); !Refused(err) {
			t.Errorf("View without %s: %v, want the refusal", path, err)
		}
	}
}

func TestAsk(t *testing.T) {
	c := api(t, shop())
	if v, err := c.Version(t.Context()); err != nil || v != (Version{"1", "36", "v1.36.3"}) {
		t.Errorf("version %+v, %v", v, err)
	}
	if body, err := c.Page(t.Context(), "shop", "autoscaler-0", 9090, "/explain", url.Values{"owned": {"true"}}); err != nil || string(body) != "[]" {
		t.Errorf("page %s, %v", body, err)
	}
	if _, err := c.Page(t.Context(), "shop", "autoscaler-1", 9090, "/explain", nil); !Refused(err) || !strings.HasSuffix(err.Error(), ": no way to /api/v1/namespaces/shop/pods/autoscaler-1:9090/proxy/explain") {
		t.Errorf("a page that is forbidden: %v", err)
	}
	if _, err := c.Page(t.Context(), "shop", "autoscaler-0", 9090, "/activators", nil); !Absent(err) || Refused(err) {
		t.Errorf("a page that is not there: %v", err)
	}
	if ok, err := c.Granted(t.Context(), "shop", "rouse-control", Right{Verb: "get", Resource: "pods"}); err != nil || !ok {
		t.Errorf("granted: %t, %v", ok, err)
	}
	if ok, err := c.Permitted(t.Context(), Right{Verb: "get", Resource: "pods"}); err != nil || ok {
		t.Errorf("permitted: %t, %v", ok, err)
	}
	for kind, want := range map[string]string{"apps/v1 Deployment": "deployments", "apps/v1 Gone": "", "apps/v9 Deployment": ""} {
		version, name, _ := strings.Cut(kind, " ")
		if got, err := c.Resource(t.Context(), version, name); err != nil || got != want {
			t.Errorf("resource of %s = %q, %v; want %q", kind, got, err, want)
		}
	}
}

func TestRightSaysItself(t *testing.T) {
	for want, r := range map[string]Right{
		"get pods":                     {Verb: "get", Resource: "pods"},
		"patch deployments.apps/scale": {Verb: "patch", Group: "apps", Resource: "deployments", Subresource: "scale"},
		`get secrets "certs" in rouse`: {Verb: "get", Resource: "secrets", Name: "certs", Namespace: "rouse"},
	} {
		if got := r.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// TestSeenTellsWhoIsShadowed: the rule that control follows with two workloads of one name.
func TestSeenTellsWhoIsShadowed(t *testing.T) {
	f := NewFiles("default")
	text := "apiVersion: apps/v1\nkind: %s\nmetadata: {name: hello, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}\n---\n"
	if faults := f.Add("x.yaml", []byte(fmt.Sprintf(text, "StatefulSet")+fmt.Sprintf(text, "Deployment"))); faults != nil {
		t.Fatal(faults)
	}
	all := f.Seen(config.DefaultAutoscaler())
	if len(all) != 2 || all[0].Kind != workload.Deployment || all[0].Problems[0].Reason != workload.NoService || all[1].Problems[0].Reason != workload.NameTaken {
		t.Errorf("seen %+v", all)
	}
}
