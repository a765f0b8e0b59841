package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/inject"
)

// labels of everything that belongs to a unit: the service's own, and app where it has none.
func (u *unit) labels() map[string]any {
	all := carried(u.service.Metadata.Labels)
	if all["app"] == nil {
		all["app"] = u.name
	}
	return all
}

// selector is what finds the unit's pods. A Deployment's can't change later: whatever labels the service has, it is its name.
func (u *unit) selector() map[string]any { return map[string]any{"app": u.name} }

// lastApplied is kubectl's copy of the service, of which its objects are none.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// carried are the labels or annotations of a service that its objects have, too: tools of other domains go by them. Those of
// Knative and of Rouse have a meaning of their own, and a place of their own.
func carried(own map[string]string) map[string]any {
	all := map[string]any{}
	for key, value := range own {
		domain, _, _ := strings.Cut(key, "/")
		ours := slices.ContainsFunc([]string{"knative.dev", "rouse.dev"}, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
		if !ours && key != lastApplied {
			all[key] = value
		}
	}
	return all
}

func (u *unit) object(apiVersion, kind, name string, spec map[string]any) map[string]any {
	meta := map[string]any{"name": name, "namespace": u.namespace, "labels": u.labels()}
	if annotations := carried(u.service.Metadata.Annotations); len(annotations) > 0 {
		meta["annotations"] = annotations
	}
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "spec": spec, "metadata": meta}
}

// deployment has no replicas: control has them. A rollout takes no pod away before another is there. For the webhook, which
// sees nothing but pods, they carry the label that it goes by and what concerns their sidecar.
func (u *unit) deployment(webhook bool) map[string]any {
	settings, rest := u.settings()
	labels := map[string]any{}
	if webhook {
		labels[inject.Inject] = "enabled"
		for k, v := range settings {
			if inject.Concerns(k) {
				rest[k] = v
			}
		}
	}
	for k, v := range u.service.Spec.Template.Metadata.Labels {
		labels[k] = v
	}
	maps.Copy(labels, u.selector())
	podMeta := map[string]any{"labels": labels}
	if len(rest) > 0 {
		podMeta["annotations"] = rest
	}
	d := u.object("apps/v1", "Deployment", u.name, map[string]any{
		"selector": map[string]any{"matchLabels": u.selector()},
		"strategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": 0, "maxSurge": "25%"}},
		"template": map[string]any{"metadata": podMeta, "spec": u.pod},
	})
	annotations := carried(u.service.Metadata.Annotations)
	maps.Copy(annotations, settings)
	d["metadata"].(map[string]any)["annotations"] = annotations
	return d
}

// clusterService has no selector: its endpoints are control's.
func (u *unit) clusterService() map[string]any {
	p := map[string]any{"name": "http", "port": 80, "targetPort": u.port, "protocol": "TCP"}
	if u.h2c {
		p["name"], p["appProtocol"] = "h2c", "kubernetes.io/h2c"
	}
	return u.object("v1", "Service", u.name, map[string]any{"type": "ClusterIP", "ports": []any{p}})
}

// policy lets everybody reach the queue-proxy's serving port, the system's namespace its figures, the other one its metrics,
// and nobody the application's own port. Kubelet's probes and hooks are let through by every network plug-in.
//
// Ports are numbers: not every plug-in finds the names of a native sidecar's ports.
func (u *unit) policy(system, metrics string) map[string]any {
	p, err := inject.PortsOf(u.service.Spec.Template.Metadata.Annotations[inject.Ports])
	if err != nil {
		p, _ = inject.PortsOf("") // whoever injects says what is wrong
	}
	port := func(number int) map[string]any { return map[string]any{"protocol": "TCP", "port": number} }
	from := func(namespace string, ports ...any) map[string]any {
		match := map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": namespace}}
		return map[string]any{"from": []any{map[string]any{"namespaceSelector": match}}, "ports": ports}
	}
	ingress := []any{map[string]any{"ports": []any{port(p.Serving)}}, from(system, port(p.Stats), port(p.Metrics))}
	if metrics != "" {
		ingress = append(ingress, from(metrics, port(p.Metrics)))
	}
	return u.object("networking.k8s.io/v1", "NetworkPolicy", u.name, map[string]any{
		"podSelector": map[string]any{"matchLabels": u.selector()},
		"policyTypes": []any{"Ingress"},
		"ingress":     ingress,
	})
}

// route sends a service's hosts to its revisions by weight, and each tag's host to its own.
func (u *unit) route(o Options, traffic []target) []map[string]any {
	parent := map[string]any{"name": o.Gateway}
	if ns, name, ok := strings.Cut(o.Gateway, "/"); ok {
		parent = map[string]any{"namespace": ns, "name": name}
	}
	rule := func(refs []any) map[string]any { return map[string]any{"backendRefs": refs} }
	ref := func(t target, weight any) map[string]any {
		to := map[string]any{"name": u.name, "port": 80}
		if !t.latest() {
			to["name"] = t.RevisionName
		}
		if weight != nil {
			to["weight"] = weight
		}
		return to
	}
	service, host := u.service.Metadata.Name, "."+u.namespace+"."+o.Domain
	httpRoute := func(name string, refs []any) map[string]any {
		return u.object("gateway.networking.k8s.io/v1", "HTTPRoute", name, map[string]any{
			"parentRefs": []any{maps.Clone(parent)}, "hostnames": []any{name + host}, "rules": []any{rule(refs)}})
	}
	var refs []any
	var tagged []map[string]any
	for _, t := range traffic {
		if t.Percent != nil && *t.Percent > 0 {
			refs = append(refs, ref(t, *t.Percent))
		}
		if t.Tag != "" {
			tagged = append(tagged, httpRoute(t.Tag+"-"+service, []any{ref(t, nil)}))
		}
	}
	if len(refs) == 0 {
		refs = []any{ref(target{}, nil)}
	}
	return append([]map[string]any{httpRoute(service, refs)}, tagged...)
}
