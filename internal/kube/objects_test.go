package kube

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rousehq/rouse/internal/workload"
)

const class = "autoscaling.knative.dev/class"

func podObject(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: typesUID("uid-" + name), Labels: map[string]string{"pod-template-hash": "74f9"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "hello-74f9", Controller: ptr(true)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
			Annotations:     map[string]string{corev1.LastAppliedConfigAnnotation: "{}"},
		},
		Spec: corev1.PodSpec{
			NodeName:   "node1",
			Containers: []corev1.Container{{Name: "user", Image: "x", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}, Env: []corev1.EnvVar{{Name: "A", Value: "b"}}}},
			Volumes:    []corev1.Volume{{Name: "v"}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.88.0.2"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func sidecarOf(env ...corev1.EnvVar) corev1.Container {
	return corev1.Container{Name: "queue-proxy", Ports: []corev1.ContainerPort{{Name: "queue-port", ContainerPort: 9012}}, Env: env}
}

// counted gives a pod a queue-proxy.
func counted(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{sidecarOf()} }

func TestPodOf(t *testing.T) {
	statsURL := corev1.EnvVar{Name: "ROUSE_STATS_URL", Value: "ws://x"}
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   func(*pod) bool
	}{
		{"of a Deployment", nil, func(p *pod) bool {
			return p.owner == owner{workload.Deployment, key{"default", "hello"}} && p.ready && p.sidecar == 0 && p.addrs[0] == netip.MustParseAddr("10.88.0.2") &&
				slices.Equal(p.ports, []named{{"web", 8080}})
		}},
		{"of a StatefulSet", func(p *corev1.Pod) {
			p.OwnerReferences[0] = metav1.OwnerReference{Kind: "StatefulSet", Name: "db", Controller: ptr(true)}
		}, func(p *pod) bool { return p.owner == owner{workload.StatefulSet, key{"default", "db"}} }},
		{"of nobody", func(p *corev1.Pod) { p.OwnerReferences = nil }, func(p *pod) bool { return p == nil }},
		{"of a Job", func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Job" }, func(p *pod) bool { return p == nil }},
		{"of a bare ReplicaSet", func(p *corev1.Pod) { delete(p.Labels, "pod-template-hash") }, func(p *pod) bool { return p == nil }},
		{"terminating", func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.Now()) }, func(p *pod) bool { return p.terminating }},
		{"not ready", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }, func(p *pod) bool { return !p.ready }},
		{"failed", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, func(p *pod) bool { return p.ended }},
		{"native sidecar that pushes", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{sidecarOf(statsURL)} }, func(p *pod) bool {
			return p.sidecar == 9012 && !p.scraped
		}},
		{"Knative's sidecar", func(p *corev1.Pod) {
			c := sidecarOf()
			c.Ports = nil
			p.Spec.Containers = append(p.Spec.Containers, c)
		}, func(p *pod) bool { return p.sidecar == sidecarPort && p.scraped && p.stats == statsPort }},
		{"its statistics moved", func(p *corev1.Pod) {
			c := sidecarOf()
			c.Ports = append(c.Ports, corev1.ContainerPort{Name: statsPortName, ContainerPort: 19090})
			p.Spec.InitContainers = []corev1.Container{c}
		}, func(p *pod) bool { return p.scraped && p.stats == 19090 }},
		{"native sidecars", func(p *corev1.Pod) {
			envoy := corev1.Container{Name: "envoy", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 15001}}}
			migrate := corev1.Container{Name: "migrate", Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 1}}}
			p.Spec.InitContainers = []corev1.Container{migrate, envoy, sidecarOf(statsURL)}
		}, func(p *pod) bool {
			return p.sidecar == 9012 && slices.Equal(p.ports, []named{{"web", 8080}, {"mesh", 15001}, {"queue-port", 9012}})
		}},
		{"ports that are not TCP", func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {Name: "web", ContainerPort: 8081, Protocol: corev1.ProtocolTCP}}
		}, func(p *pod) bool { return slices.Equal(p.ports, []named{{"web", 8081}}) }},
		{"dual stack", func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::2"}) }, func(p *pod) bool { return len(p.addrs) == 2 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stripped, err := stripPod(podObject("a", tc.change))
			if err != nil {
				t.Fatal(err)
			}
			if p := podOf(stripped); !tc.want(p) {
				t.Errorf("podOf = %+v", p)
			}
		})
	}
}

func TestServiceOf(t *testing.T) {
	plain, bound := serviceOf(helloService(nil)), serviceOf(helloService(func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
		s.Spec.ExternalTrafficPolicy, s.Spec.SessionAffinity = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceAffinityClientIP
	}))
	if plain.InternalLocal || plain.ExternalLocal || plain.ClientIP || !bound.InternalLocal || !bound.ExternalLocal || !bound.ClientIP {
		t.Errorf("serviceOf = %+v and %+v, want the second one to keep to its node and its endpoint", plain, bound)
	}
}

func TestStrippingDropsWhatNobodyReads(t *testing.T) {
	obj, _ := stripPod(podObject("a", nil))
	p := obj.(*corev1.Pod)
	if p.ManagedFields != nil || p.Annotations[corev1.LastAppliedConfigAnnotation] != "" || p.Spec.Volumes != nil || p.Spec.Containers[0].Env != nil || p.Spec.Containers[0].Image != "" {
		t.Errorf("left: %+v", p)
	}
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: podObject("a", nil).Spec}}, Status: appsv1.DeploymentStatus{Replicas: 3}}
	if _, err := stripDeployment(d); err != nil || d.Spec.Template.Spec.Volumes != nil || d.Spec.Template.Spec.Containers[0].Env != nil || d.Status.Replicas != 0 {
		t.Errorf("left: %+v", d)
	}
}

func TestOptedOf(t *testing.T) {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello", UID: "u", Annotations: map[string]string{
			class: "kpa.autoscaling.knative.dev", "autoscaling.knative.dev/target": "5", "team": "x",
		}},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			"autoscaling.knative.dev/target": "7", "autoscaling.knative.dev/max-scale": "9",
		}}}},
	}
	o := deploymentOf(d)
	if o == nil || o.Replicas != 1 || o.Annotations["autoscaling.knative.dev/target"] != "5" || o.Annotations["autoscaling.knative.dev/max-scale"] != "9" || o.Annotations["team"] != "" {
		t.Errorf("deploymentOf = %+v, want one replica and the object's annotations over the template's", o)
	}
	d.Annotations[class] = "keda.sh"
	if o := deploymentOf(d); o.OptedIn() || o.UID != "u" || o.Annotations != nil || o.PodLabels != nil {
		t.Errorf("of a Deployment that is not opted in more than its name is kept: %+v", o)
	}
}

// TestOrphansAreNobodys: pods that outlive their Deployment belong to the next one of its name only if its selector says so.
func TestOrphansAreNobodys(t *testing.T) {
	expressions := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"hello", "x"}}}}
	labelled := func(name, app string) *pod {
		return podOf(podObject(name, func(p *corev1.Pod) { p.Labels["app"] = app }))
	}
	for _, tc := range []struct {
		name, class string
		selector    metav1.LabelSelector
		want        []string
	}{
		{"labels", ourClass, byLabels(map[string]string{"app": "hello"}), []string{"a", "b"}},
		{"expressions", ourClass, expressions, []string{"a", "b"}},
		{"both kept", ourClass, byLabels(map[string]string{"pod-template-hash": "74f9"}), []string{"a", "b", "old"}},
		{"not opted in", foreignClass, byLabels(map[string]string{"app": "hello"}), []string{"a", "b", "old"}},
	} {
		c := NewCluster(ClusterConfig{Namespace: "rouse-system"}, nil)
		d := deploymentOf(workloadObject(workload.Deployment, "hello", tc.class, tc.selector))
		for _, p := range []*pod{labelled("a", "hello"), labelled("b", "hello"), labelled("old", "old")} {
			c.pods.put(key{"default", p.name}, p)
		}
		var got []string
		for _, p := range c.podsFor(d) {
			got = append(got, p.name)
		}
		if slices.Sort(got); !slices.Equal(got, tc.want) {
			t.Errorf("%s: pods %v, want %v", tc.name, got, tc.want)
		}
	}
	set := func(index string) *pod {
		return podOf(podObject("db-"+index, func(p *corev1.Pod) {
			p.OwnerReferences[0] = metav1.OwnerReference{Kind: "StatefulSet", Name: "db", Controller: ptr(true)}
			p.Labels = map[string]string{"app": "db", "tier": "", appsv1.StatefulSetPodNameLabel: "db-" + index, appsv1.PodIndexLabel: index}
		}))
	}
	if a, b := set("0"), set("1"); a.labels != b.labels || !maps.Equal(a.labelSet(), map[string]string{"app": "db", "tier": ""}) {
		t.Errorf("labels %q and %q, want the same", a.labels.Value(), b.labels.Value())
	}
}

func TestRivals(t *testing.T) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "hello"}}}
	if got := hpaOf(hpa); *got != (rival{"HorizontalPodAutoscaler", "hello", workload.Deployment}) {
		t.Errorf("hpaOf = %+v", got)
	}
	so := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"scaleTargetRef": map[string]any{"name": "hello"}}}}
	if got := scaledObjectOf(so); *got != (rival{"ScaledObject", "hello", workload.Deployment}) {
		t.Errorf("scaledObjectOf = %+v", got)
	}
}

func TestTable(t *testing.T) {
	type change struct{ old, now string }
	var seen []change
	name := func(p *pod) string {
		if p == nil {
			return ""
		}
		return p.node
	}
	tab := newTable(stripPod, podOf, func(_ key, old, now *pod) { seen = append(seen, change{name(old), name(now)}) })
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tab.Add(podObject("a", on("1"))))
	must(tab.Update(podObject("a", on("2"))))
	must(tab.Replace([]any{podObject("b", on("3"))}, "7"))
	must(tab.Delete(podObject("b", nil)))
	must(tab.Delete(podObject("b", nil)))
	want := []change{{"", "1"}, {"1", "2"}, {"", "3"}, {"2", ""}, {"3", ""}}
	if !slices.Equal(seen, want) || tab.len() != 0 || !tab.synced.Load() {
		t.Errorf("changes %v, want %v; %d left", seen, want, tab.len())
	}
}

func TestAnEventThatWasOvertakenIsNoNews(t *testing.T) {
	c := NewCluster(ClusterConfig{Namespace: "rouse-system"}, nil)
	k := key{"default", "s-0"}
	at := func(version string, ready int) *slice {
		return &slice{service: key{"default", "s"}, name: "s-0", version: version, writer: managedBy, ready: ready}
	}
	c.slices.put(k, at("10", 2)) // our own write's answer
	c.slices.put(k, at("9", 1))  // the watch lags
	if got := c.slices.get(k).ready; got != 2 {
		t.Errorf("%d endpoints, want 2", got)
	}
	c.slices.put(k, at("11", 3))
	if ours, _ := c.slicesFor(key{"default", "s"}); len(ours) != 1 || ours[0].ready != 3 {
		t.Errorf("slices %+v, want the newest", ours)
	}
}
