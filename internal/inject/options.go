package inject

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

// Annotations of a pod template, or of its workload, which win. Sizes have Knative's names:
// queue.sidecar.serving.knative.dev/{cpu,memory,ephemeral-storage}-resource-{request,limit}.
const (
	// Inject is enabled or disabled; without it the class annotation of the workload opts in. It may be a label of the
	// pods, too, which is what the webhook's configuration selects.
	Inject = config.Inject
	// Container names the container that serves, when several have ports.
	Container = config.InjectContainer
	// Port is the number or the name of the port that serves, when the container has several.
	Port = config.InjectPort
	// Ports moves the queue-proxy's ports, as "serving=8012,admin=8022,stats=9090,metrics=9091" or a part of it.
	Ports = config.InjectPorts

	sizePrefix = "queue.sidecar.serving.knative.dev/"
)

// Concerns says whether an annotation has a say in the sidecar. The webhook sees those of pods alone.
func Concerns(key string) bool {
	return strings.HasPrefix(key, Inject) || strings.HasPrefix(key, sizePrefix) || slices.Contains(config.SpecAnnotations(), key)
}

// Unseen lists the annotations of a workload that have a say in the sidecar and that the webhook does not see, since pods have
// not got them, or have others. It is empty for pods that the webhook leaves alone.
func Unseen(workload, podLabels, podAnnotations map[string]string) (keys []string) {
	if podLabels[Inject] != "enabled" || slices.Contains([]string{"disabled", "false"}, podAnnotations[Inject]) {
		return nil
	}
	for key, value := range workload {
		own, has := podAnnotations[key]
		agreed := key == Inject && slices.Contains([]string{"enabled", "true"}, value)
		if Concerns(key) && (!has || own != value) && !agreed {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// ContainerName is the name of the sidecar, and the first of its ports' names is that of the serving port.
const (
	ContainerName   = "queue-proxy"
	ServingPortName = "queue-port"
)

// Options are what an installation knows. The zero value of a field means its default.
type Options struct {
	// Image is the queue-proxy's. Required.
	Image string
	// StatsURL is where the sidecar pushes its reports to, ws:// or wss://; empty lets control fetch them.
	StatsURL string
	// TokenAudience, when set, mounts a token of the pod's service account for this audience and sends it with the
	// reports.
	TokenAudience string
	// Sizes are what the sidecar asks for when annotations do not say.
	Sizes Sizes
	// All injects workloads that are not opted in, too, unless they are opted out.
	All bool
	// KnativeProbes says that readiness probes are those of Knative Services: one without a period is asked until it succeeds.
	// To Kubernetes it has one of 10 s.
	KnativeProbes bool

	wished bool // only those that ask for it by Inject: see Check
}

// Validate names every field that can't be used.
func (o Options) Validate() error {
	var errs []error
	if o.Image == "" || strings.ContainsAny(o.Image, " \t\n") {
		errs = append(errs, fmt.Errorf("image = %q: must be the queue-proxy's image", o.Image))
	}
	if u, err := url.Parse(o.StatsURL); o.StatsURL != "" && (err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "") {
		errs = append(errs, fmt.Errorf("stats URL = %q: must be ws://host:port or wss://host:port", o.StatsURL))
	}
	if o.TokenAudience != "" && o.StatsURL == "" {
		errs = append(errs, errors.New("a token audience needs a stats URL: without one nothing is pushed"))
	}
	errs = append(errs, o.Sizes.Validate(func(name string) string { return "sidecar " + name }))
	return errors.Join(errs...)
}

// PortSet are the queue-proxy's ports.
type PortSet struct{ Serving, Admin, Stats, Metrics int }

func defaultPorts() PortSet { return PortSet{Serving: 8012, Admin: 8022, Stats: 9090, Metrics: 9091} }

// list returns the ports with the names that they have in a container, Knative's.
func (p PortSet) list() []containerPort {
	return []containerPort{
		{Name: ServingPortName, Port: p.Serving, Protocol: "TCP"}, {Name: "http-queueadm", Port: p.Admin, Protocol: "TCP"},
		{Name: "http-autometric", Port: p.Stats, Protocol: "TCP"}, {Name: "http-usermetric", Port: p.Metrics, Protocol: "TCP"},
	}
}

// PortsOf reads the annotation [Ports]; empty are the defaults.
func PortsOf(text string) (PortSet, error) {
	p := defaultPorts()
	if text == "" {
		return p, nil
	}
	which := map[string]*int{"serving": &p.Serving, "admin": &p.Admin, "stats": &p.Stats, "metrics": &p.Metrics}
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(part), "=")
		at := which[name]
		if n, ok := portNumber(number); ok && at != nil {
			*at = n
			continue
		}
		return p, fmt.Errorf("%q: must be parts of the form serving=N, admin=N, stats=N, metrics=N", text)
	}
	taken := make(map[int]bool)
	for _, c := range p.list() {
		if taken[c.Port] {
			return p, fmt.Errorf("%q: port %d is given twice", text, c.Port)
		}
		taken[c.Port] = true
	}
	return p, nil
}
