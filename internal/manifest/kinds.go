package manifest

import (
	"slices"
	"strings"
)

// kind is something that people have in their manifests and that nothing here runs yet.
type kind struct {
	group string // API group without version; a leading dot matches any group with that ending
	name  string // empty matches every kind of the group
	why   string
}

// recognised are the kinds that are skipped with a word about why. Anything else is skipped as unknown.
var recognised = []kind{
	{"apps", "Deployment", "Deployments are not run as local processes yet"},
	{"apps", "", "workloads other than Knative Services are not run as local processes"},
	{"batch", "", "jobs are not run as local processes"},
	{"", "Service", "a plain Service belongs to a Deployment, which is not run as local processes yet"},
	{"", "Namespace", "local services need no namespace object"},
	{"", "ServiceAccount", "local processes run as the user who started them"},
	{"", "", "core objects other than ConfigMap and Secret are not used"},
	{"sources.knative.dev", "", "event sources are not dispatched yet"},
	{"eventing.knative.dev", "", "brokers and triggers are not dispatched yet"},
	{"messaging.knative.dev", "", "channels and subscriptions are not dispatched yet"},
	{"flows.knative.dev", "", "sequences and parallels are not dispatched yet"},
	{"sinks.knative.dev", "", "sinks are not dispatched yet"},
	{"kafka.eventing.knative.dev", "", "consumer groups are internal to Knative"},
	{"internal.kafka.eventing.knative.dev", "", "consumer groups are internal to Knative"},
	{"keda.sh", "", "KEDA's objects are not scaled yet"},
	{"http.keda.sh", "", "routes of the HTTP add-on are not served yet"},
	{"serving.knative.dev", "DomainMapping", "domain mappings are not routed yet"},
	{"serving.knative.dev", "", "only kind Service is run; write the Configuration and Route as one"},
	{".knative.dev", "", "this kind of Knative is not built"},
	{"networking.k8s.io", "", "ingresses are not read: the activator routes by host"},
	{"gateway.networking.k8s.io", "", "gateways are not read: the activator routes by host"},
	{"rbac.authorization.k8s.io", "", "local processes need no roles"},
	{"autoscaling", "", "HorizontalPodAutoscalers are not run"},
	{"policy", "", "disruption budgets are not used for local processes"},
}

func (k kind) matches(group, name string) bool {
	if k.name != "" && k.name != name {
		return false
	}
	if strings.HasPrefix(k.group, ".") {
		return strings.HasSuffix(group, k.group)
	}
	return k.group == group
}

// skipped warns of a document that is not run and keeps its name.
func (l *loader) skipped(o *object) {
	obj := o.obj
	if m, ok := o.take("metadata"); ok {
		if meta, ok := m.object(); ok {
			obj.Name = meta.text("name")
			obj.Namespace = meta.text("namespace")
		}
	}
	group, version, ok := strings.Cut(obj.APIVersion, "/")
	if !ok {
		group, version = "", obj.APIVersion
	}
	at := o.cursor
	if c, ok := o.take("kind"); ok {
		at.node = c.node
	}
	i := slices.IndexFunc(recognised, func(k kind) bool { return k.matches(group, obj.Kind) })
	switch {
	case group == "serving.knative.dev" && obj.Kind == "Service":
		at.errorf("write apiVersion: serving.knative.dev/v1", "version %s is not served", clip(version))
		return
	case i >= 0:
		at.warnf("", "%s %s: %s", clip(obj.APIVersion), clip(obj.Kind), recognised[i].why)
	default:
		at.warnf("the document has no effect", "%s %s is not a kind that Rouse knows", clip(obj.APIVersion), clip(obj.Kind))
	}
	l.set.Skipped = append(l.set.Skipped, *obj)
}
