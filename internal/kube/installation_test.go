package kube

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/internal/workload"
)

const systemPods = `
kind: PodList
apiVersion: v1
items:
- metadata: {name: autoscaler-1, namespace: shop, labels: {app: a}, ownerReferences: [{kind: StatefulSet, name: autoscaler, controller: true, apiVersion: apps/v1, uid: r}]}
  spec: {containers: [{name: autoscaler, image: r/autoscaler:2}]}
  status: {phase: Pending, containerStatuses: [{name: autoscaler, state: {waiting: {reason: ImagePullBackOff, message: no such image}}}]}
- metadata: {name: autoscaler-0, namespace: shop, labels: {app: a}, ownerReferences: [{kind: StatefulSet, name: autoscaler, controller: true, apiVersion: apps/v1, uid: r}]}
  spec:
    containers:
    - {name: proxy, image: p}
    - {name: autoscaler, image: r/autoscaler:1, env: [{name: ROUSE_BUCKETS, value: "8"}, {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}
  status: {phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: autoscaler, imageID: sha256:1}]}
- metadata: {name: stray, namespace: shop, labels: {app: a}}
  spec: {containers: [{name: autoscaler, image: x}]}
`

const systemLeases = `
kind: LeaseList
apiVersion: coordination.k8s.io/v1
items:
- metadata: {name: rouse-member-autoscaler-0, resourceVersion: "41"}
  spec: {holderIdentity: autoscaler-0}
- metadata: {name: rouse-bucket-3}
  spec: {holderIdentity: autoscaler-0, leaseTransitions: 2}
- metadata: {name: rouse-bucket-x}
`

func TestInstallation(t *testing.T) {
	c := api(t, map[string]string{
		"/apis/apps/v1/namespaces/shop/statefulsets/autoscaler":                            "{kind: StatefulSet, apiVersion: apps/v1, spec: {replicas: 2, selector: {matchLabels: {app: a}}}}",
		"/apis/apps/v1/namespaces/shop/deployments/activator":                              "forbidden",
		"/api/v1/namespaces/shop/pods":                                                     systemPods,
		"/apis/coordination.k8s.io/v1/namespaces/shop/leases":                              systemLeases,
		"/api/v1/namespaces/shop/configmaps/rouse-ports":                                   "{kind: ConfigMap, apiVersion: v1, data: {\"20001\": default/hello/http}}",
		"/api/v1/namespaces/shop/configmaps/config-autoscaler":                             "forbidden",
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/rouse-inject": "{kind: MutatingWebhookConfiguration, apiVersion: admissionregistration.k8s.io/v1, webhooks: [{name: a, clientConfig: {caBundle: cGVt}}]}",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rouse-control":             "{kind: ClusterRoleBinding, apiVersion: rbac.authorization.k8s.io/v1, subjects: [{kind: User, name: x}, {kind: ServiceAccount, name: rouse-control, namespace: tools}]}",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rouse-webhook":             "forbidden",
	})
	got, err := c.Component(t.Context(), "shop", workload.StatefulSet, "autoscaler")
	want := &Component{Kind: workload.StatefulSet, Name: "autoscaler", Wanted: 2, Instances: []Instance{
		{Name: "autoscaler-0", Ready: true, Image: "r/autoscaler:1", ImageID: "sha256:1", Environ: map[string]string{"ROUSE_BUCKETS": "8"}},
		{Name: "autoscaler-1", Why: "ImagePullBackOff: no such image", Image: "r/autoscaler:2", Environ: map[string]string{}},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("control: %v %s", err, diff)
	}
	if got, err := c.Component(t.Context(), "shop", workload.Deployment, "rouse-webhook"); got != nil || err != nil {
		t.Errorf("what is not there: %v, %v", got, err)
	}
	if _, err := c.Component(t.Context(), "shop", workload.Deployment, "activator"); !Refused(err) {
		t.Errorf("what may not be read: %v", err)
	}
	shares, err := c.Shares(t.Context(), "shop")
	if diff := cmp.Diff(Shares{Members: map[string]string{"autoscaler-0": "41"}, Holders: map[int]string{3: "autoscaler-0"}}, shares); err != nil || diff != "" {
		t.Errorf("shares: %v %s", err, diff)
	}
	if data, found, err := c.ConfigMap(t.Context(), "shop", "rouse-ports"); err != nil || !found || data["20001"] != "default/hello/http" {
		t.Errorf("the book: %v %t %v", data, found, err)
	}
	if _, found, err := c.ConfigMap(t.Context(), "shop", "nothing"); found || err != nil {
		t.Errorf("no ConfigMap: %t %v", found, err)
	}
	if _, _, err := c.ConfigMap(t.Context(), "shop", "config-autoscaler"); !Refused(err) {
		t.Errorf("a ConfigMap that may not be read: %v", err)
	}
	if bundles, found, err := c.Trusted(t.Context(), "rouse-inject"); err != nil || !found || string(bundles[0]) != "pem" {
		t.Errorf("authorities: %s %t %v", bundles, found, err)
	}
	if _, found, err := c.Trusted(t.Context(), "nothing"); found || err != nil {
		t.Errorf("no configuration: %t %v", found, err)
	}
	if at, err := c.Bound(t.Context(), "rouse-control"); err != nil || !slices.Equal(at, []string{"tools"}) {
		t.Errorf("whom control's rights are for: %q %v", at, err)
	}
	if at, err := c.Bound(t.Context(), "nothing"); at != nil || err != nil {
		t.Errorf("no binding: %q %v", at, err)
	}
	if _, err := c.Bound(t.Context(), "rouse-webhook"); !Refused(err) {
		t.Errorf("a binding that may not be read: %v", err)
	}
}
