package render

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

// service is a Knative Service, as far as it is read here. The pod spec passes through.
type service struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Template struct {
			Metadata meta           `json:"metadata"`
			Spec     map[string]any `json:"spec"`
		} `json:"template"`
		Traffic []target `json:"traffic"`
	} `json:"spec"`
}

type meta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type target struct {
	RevisionName   string `json:"revisionName"`
	LatestRevision *bool  `json:"latestRevision"`
	Percent        *int64 `json:"percent"`
	Tag            string `json:"tag"`
}

func (t target) latest() bool { return t.RevisionName == "" }

// visibility is the label of services that have no public host.
const visibility = "networking.knative.dev/visibility"

// unit is what a service becomes: one workload, with the place of its traffic.
type unit struct {
	service   *service
	namespace string
	name      string // of the Deployment and of its Service
	container map[string]any
	pod       map[string]any
	port      int
	h2c       bool
}

func (r *renderer) service(s *service) []map[string]any {
	what := "Service " + s.Metadata.Name
	if s.Metadata.Name == "" {
		r.fault("Service", "metadata.name is missing")
		return nil
	}
	u := &unit{service: s, namespace: s.Metadata.Namespace, name: s.Metadata.Name}
	if u.namespace == "" {
		u.namespace = r.options.Namespace
	}
	named := slices.ContainsFunc(s.Spec.Traffic, func(t target) bool { return !t.latest() })
	if named {
		if u.name = s.Spec.Template.Metadata.Name; u.name == "" {
			r.fault(what, "spec.traffic names revisions, and the template's own has no name; set spec.template.metadata.name")
		}
		if r.options.Gateway == "" {
			r.fault(what, "spec.traffic divides traffic, which needs a Gateway; say which by --gateway")
		}
	}
	public := r.public(what, s, named)
	r.unread(what, s)
	if app := s.Spec.Template.Metadata.Labels["app"]; app != "" && app != u.name {
		r.warn(what, "spec.template.metadata.labels.app becomes %q, by which the Deployment finds its pods; give %q another key", u.name, app)
	}
	if !r.pod(what, u) {
		return nil
	}
	objects := []map[string]any{u.deployment(r.options.Sidecar == nil), u.clusterService()}
	if r.options.NetworkPolicy {
		objects = append(objects, u.policy(r.options.SystemNamespace, r.options.MetricsNamespace))
	}
	if public {
		objects = append(objects, u.route(r.options, s.Spec.Traffic)...)
	}
	return objects
}

// unread warns of annotations of the service itself that have no effect.
func (r *renderer) unread(what string, s *service) {
	if s.Metadata.Annotations[config.PrefixServing+"rollout-duration"] != "" {
		r.warn(what, "%srollout-duration has no effect: an HTTPRoute moves traffic at once", config.PrefixServing)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata.Annotations)) {
		if strings.HasPrefix(key, config.PrefixRouse) { // of others nobody knows for which object they are meant
			r.warn(what, "metadata.annotations.%s has no effect; move it to spec.template.metadata.annotations", key)
		}
	}
}

// public says whether a service has a host, and with it HTTPRoutes.
func (r *renderer) public(what string, s *service, named bool) bool {
	local := s.Metadata.Labels[visibility] == "cluster-local"
	if r.options.Gateway != "" && !local {
		return true
	}
	if local && named {
		r.fault(what, "is cluster-local, and the HTTPRoute that divides its traffic would make it public; "+
			"remove the label %s, and let --gateway be one that only the cluster reaches", visibility)
	}
	for _, t := range s.Spec.Traffic {
		if t.Tag != "" {
			r.warn(what, "tag %q has no host: it takes an HTTPRoute, of a public service with --gateway", t.Tag)
		}
	}
	return false
}

// pod completes the pod spec by Knative's defaults, and takes out what only Knative has.
func (r *renderer) pod(what string, u *unit) bool {
	u.pod = maps.Clone(u.service.Spec.Template.Spec)
	for _, key := range []string{"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"} {
		delete(u.pod, key)
	}
	if u.pod["enableServiceLinks"] == nil && u.pod != nil {
		u.pod["enableServiceLinks"] = false
	}
	containers, ok := r.containers(what, u, "containers")
	inits, okInits := r.containers(what, u, "initContainers")
	if !ok || !okInits {
		return false
	}
	taken := slices.Concat(containers, inits)
	name(containers, taken, "user-container")
	name(inits, taken, "init-container")
	var serving []map[string]any
	for _, m := range containers {
		if ports, _ := m["ports"].([]any); len(ports) > 0 || len(containers) == 1 {
			serving = append(serving, m)
		}
	}
	if len(serving) != 1 {
		r.fault(what, "%d containers have ports; exactly one must, which is the one that serves", len(serving))
		return false
	}
	u.container = serving[0]
	return r.complete(what, u)
}

// containers returns those of a field.
func (r *renderer) containers(what string, u *unit, field string) (all []map[string]any, ok bool) {
	list, _ := u.pod[field].([]any)
	for i, c := range list {
		m, ok := c.(map[string]any)
		if !ok {
			r.fault(what, "spec.template.spec.%s[%d] is no container", field, i)
			return nil, false
		}
		all = append(all, m)
	}
	return all, true
}

// name gives containers without a name the one that Knative gives them (serving v0.42.2, pkg/apis/serving/v1/revision_defaults.go):
// a number follows where there are several, or where one of the pod has the name already.
func name(containers, taken []map[string]any, base string) {
	given := make(map[any]bool)
	for _, c := range taken {
		given[c["name"]] = true
	}
	next := 0
	for _, c := range containers {
		if n, _ := c["name"].(string); n != "" {
			continue
		}
		free := base
		for len(containers) > 1 && free == base || given[free] {
			free = fmt.Sprintf("%s-%d", base, next)
			next++
		}
		c["name"] = free
	}
}

// defaultPort is Knative's.
const defaultPort = 8080

// complete fills in what Knative fills in: port and environment of the container that serves.
func (r *renderer) complete(what string, u *unit) bool {
	u.port = defaultPort
	name := "http"
	if ports, _ := u.container["ports"].([]any); len(ports) > 0 {
		p, _ := ports[0].(map[string]any)
		if n, ok := p["containerPort"].(float64); ok && n > 0 {
			u.port = int(n)
		}
		if given, _ := p["name"].(string); given != "" { // probes and hooks may call it so
			name = given
		}
		u.h2c = name == "h2c"
		if len(ports) > 1 {
			r.fault(what, "the container has %d ports; Knative's have one", len(ports))
			return false
		}
	}
	u.container["ports"] = []any{map[string]any{"name": name, "containerPort": u.port, "protocol": "TCP"}}
	if p, ok := u.container["readinessProbe"].(map[string]any); ok && p["httpGet"] == nil && p["tcpSocket"] == nil && p["grpc"] == nil && p["exec"] == nil {
		p["tcpSocket"] = map[string]any{} // without a way to ask it asks for a connection
	}
	for _, probe := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
		p, _ := u.container[probe].(map[string]any)
		for _, kind := range []string{"httpGet", "tcpSocket", "grpc"} {
			if h, ok := p[kind].(map[string]any); ok && (h["port"] == nil || h["port"] == float64(0)) {
				h["port"] = u.port
			}
		}
	}
	u.environment()
	return true
}

func (u *unit) environment() {
	env, _ := u.container["env"].([]any)
	for _, v := range [][2]string{{"PORT", strconv.Itoa(u.port)}, {"K_REVISION", u.name}, {"K_CONFIGURATION", u.service.Metadata.Name}, {"K_SERVICE", u.service.Metadata.Name}} {
		taken := slices.ContainsFunc(env, func(e any) bool { m, _ := e.(map[string]any); return m["name"] == v[0] })
		if !taken {
			env = append(env, map[string]any{"name": v[0], "value": v[1]})
		}
	}
	u.container["env"] = env
}

// settings are the annotations that control reads: the template's, and the numbers that a Deployment has no field for.
func (u *unit) settings() (settings, rest map[string]any) {
	settings, rest = map[string]any{config.PrefixAutoscaling + "class": config.ClassKPA}, map[string]any{}
	for k, v := range u.service.Spec.Template.Metadata.Annotations {
		switch {
		case strings.HasPrefix(k, config.PrefixAutoscaling), strings.HasPrefix(k, config.PrefixRouse), strings.HasPrefix(k, config.PrefixServing),
			strings.HasPrefix(k, "queue.sidecar.serving.knative.dev/"):
			settings[k] = v
		default:
			rest[k] = v
		}
	}
	for field, key := range map[string]string{"containerConcurrency": "container-concurrency", "timeoutSeconds": "timeout-seconds",
		"responseStartTimeoutSeconds": "response-start-timeout-seconds", "idleTimeoutSeconds": "idle-timeout-seconds"} {
		if n, ok := u.service.Spec.Template.Spec[field].(float64); ok {
			settings[config.PrefixRouse+key] = strconv.FormatFloat(n, 'f', -1, 64)
		}
	}
	return settings, rest
}
