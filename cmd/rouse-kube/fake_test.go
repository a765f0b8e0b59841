package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

// fake is a cluster as a test describes it. Zero fields are what is not there; refuses names questions that fail.
type fake struct {
	t          *testing.T
	manifests  string // what View holds
	components map[string]*kube.Component
	bound      map[string][]string // whom bindings are for
	configMaps map[string]map[string]string
	pages      map[string]string // by pod and path
	bundles    [][]byte
	lacks      string // part of a right that is not granted
	unserved   string // kind that the API server does not serve
	refuses    map[string]error
	shares     kube.Shares
	reads      int // of shares: stamps change with each
}

func (f *fake) Namespace() string { return "shop" }

func (f *fake) Version(context.Context) (kube.Version, error) {
	return kube.Version{Major: "1", Minor: "36", Git: "v1.36.3"}, f.refuses["version"]
}

func (f *fake) View(context.Context, string, bool) (*kube.View, error) {
	files := kube.NewFiles("shop")
	if faults := files.Add("x", []byte(f.manifests)); len(faults) > 0 {
		f.t.Errorf("manifests of the test: %v", faults)
	}
	if err := f.refuses["pods"]; err != nil {
		files.Unread[kube.KindPods] = err
	}
	return files.View, f.refuses["view"]
}

func (f *fake) Component(_ context.Context, _ string, _ workload.Kind, name string) (*kube.Component, error) {
	return f.components[name], f.refuses["component"]
}

func (f *fake) Bound(_ context.Context, binding string) ([]string, error) {
	return f.bound[binding], f.refuses["bound"]
}

func (f *fake) Shares(context.Context, string) (kube.Shares, error) {
	f.reads++
	now := kube.Shares{Holders: f.shares.Holders, Members: map[string]string{}}
	for name := range f.shares.Members {
		now.Members[name] = fmt.Sprint(f.reads)
	}
	return now, f.refuses["shares"]
}

func (f *fake) ConfigMap(_ context.Context, _, name string) (map[string]string, bool, error) {
	data, found := f.configMaps[name]
	return data, found, f.refuses[name]
}

func (f *fake) Trusted(context.Context, string) ([][]byte, bool, error) {
	return f.bundles, f.bundles != nil, f.refuses["trusted"]
}

func (f *fake) Granted(_ context.Context, _, account string, r kube.Right) (bool, error) {
	return f.lacks == "" || !strings.Contains(account+" "+r.String(), f.lacks), f.refuses["granted"]
}

func (f *fake) Permitted(_ context.Context, r kube.Right) (bool, error) {
	return f.lacks == "" || !strings.Contains(r.String(), f.lacks), f.refuses["permitted"]
}

func (f *fake) Resource(_ context.Context, _, kind string) (string, error) {
	if kind == f.unserved {
		return "", nil
	}
	return strings.ToLower(kind) + "s", f.refuses["resource"]
}

func (f *fake) Page(_ context.Context, _, pod string, port int, path string, _ url.Values) ([]byte, error) {
	if err := f.refuses["page"]; err != nil {
		return nil, fmt.Errorf("%s: %w", pod, err)
	}
	body, ok := f.pages[fmt.Sprintf("%s:%d%s", pod, port, path)]
	if !ok {
		return nil, errors.New("no page " + path)
	}
	return []byte(body), nil
}

const helloYAML = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, uid: u1, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}
spec: {replicas: 0, template: {metadata: {labels: {app: hello}}}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hello-0, labels: {kubernetes.io/service-name: hello, endpointslice.kubernetes.io/managed-by: control.rouse.dev, rouse.dev/backend: activators}}
addressType: IPv4
ports: [{name: http, port: 20001}]
endpoints: [{addresses: [10.88.0.1]}]
`

// healthy is a cluster with two instances of control, one activator, and the workload hello at zero.
func healthy(t *testing.T) *fake {
	activators := `[{"Name":"activator-1","Addr":"10.88.0.1:8080","Connected":true,"Ports":{"20001":""}}]`
	holders := map[int]string{}
	for b := range 16 {
		holders[b] = fmt.Sprint("autoscaler-", b%2)
	}
	return &fake{
		t: t, manifests: helloYAML, refuses: map[string]error{},
		components: map[string]*kube.Component{
			"autoscaler": part(workload.StatefulSet, "autoscaler", 2, instance("autoscaler-0", 8), instance("autoscaler-1", 9, environ("ROUSE_ADMIN_LISTEN", ":9190"))),
			"activator":  part(workload.Deployment, "activator", 1, instance("activator-1", 1)),
		},
		configMaps: map[string]map[string]string{"rouse-ports": {"20001": "shop/hello/http"}, "config-autoscaler": {}},
		shares:     kube.Shares{Members: map[string]string{"autoscaler-0": "", "autoscaler-1": ""}, Holders: holders},
		pages: map[string]string{
			"autoscaler-0:9090/activators": activators, "autoscaler-1:9190/activators": activators,
			"autoscaler-0:9090/explain": `[{"namespace":"shop","service":"hello","revision":"hello","owner":false}]`,
			"autoscaler-1:9190/explain": `[{"namespace":"shop","service":"hello","revision":"hello","owner":true,"reason":"nobody asks","inFlight":12.04,"requestsPerSecond":3,"waiting":2,
				"pods":{"ready":1,"requested":4},"winner":"rps","observed":[{"metric":"concurrency","target":7},{"metric":"rps","target":70.5,"stable":3,"panic":4}]},
				{"namespace":"shop","service":"other","revision":"other","owner":true}]`,
		},
	}
}
