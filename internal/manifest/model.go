package manifest

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Set is everything that a load understood.
type Set struct {
	Services   []Service
	ConfigMaps []ConfigMap
	// InterceptorRoutes are empty unless Options asks for them.
	InterceptorRoutes []InterceptorRoute
	// Others are documents of the kinds that Options.Others names, whole.
	Others []Document
	// Skipped are the documents of kinds that are recognised but not built.
	Skipped []Object
}

// ConfigMap returns the ConfigMap of that name, from namespace when it has one there, else from any namespace: the
// settings of Knative are found by name alone.
func (s *Set) ConfigMap(namespace, name string) (*ConfigMap, bool) {
	var found *ConfigMap
	for i := range s.ConfigMaps {
		cm := &s.ConfigMaps[i]
		if cm.Name != name {
			continue
		}
		if cm.Namespace == namespace {
			return cm, true
		}
		found = cmp.Or(found, cm)
	}
	return found, found != nil
}

// Object is what every document has: its kind, its name and where each field stands.
type Object struct {
	APIVersion string
	Kind       string
	Namespace  string
	Name       string
	pos        positions
}

// String returns "Kind namespace/name".
func (o Object) String() string { return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name) }

// Where returns "file:line" of a field path, such as "spec.template.spec.timeoutSeconds" or
// "spec.template.metadata.annotations[autoscaling.knative.dev/target]". A path that is not written in the file
// gives the line of the nearest enclosing field that is.
func (o Object) Where(path string) string { return o.pos.where(path) }

// Fault is what somebody else found wrong with the object, at a field's place.
func (o Object) Fault(s Severity, path, text, remedy string) Fault {
	return Fault{s, o.pos.file, o.pos.lineOf(path), o.String(), path, text, remedy}
}

// File returns the name of the source that holds the object.
func (o Object) File() string { return o.pos.file }

// Document is an object that the caller decodes itself.
type Document struct {
	Object
	YAML []byte
}

// ConfigMap is a v1 ConfigMap.
type ConfigMap struct {
	Object
	Data map[string]string
}

// WhereKey returns "file:line" of one key of the data.
func (c *ConfigMap) WhereKey(key string) string { return c.Where("data[" + key + "]") }

// Service is a serving.knative.dev/v1 Service with its defaults filled in.
type Service struct {
	Object
	Labels      map[string]string
	Annotations map[string]string
	Template    Template
	// Traffic is never empty: without spec.traffic it is all to the latest revision.
	Traffic []TrafficTarget
	// RolloutDuration spreads a move of traffic to a new latest revision over time; 0 is at once.
	RolloutDuration time.Duration
	// ClusterLocal keeps the service off its public host.
	ClusterLocal bool
}

// WhereAnnotation returns "file:line" of an annotation of the template.
func (s *Service) WhereAnnotation(key string) string {
	return s.Where("spec.template.metadata.annotations[" + key + "]")
}

// Template is what a revision is made from.
type Template struct {
	Name        string // full revision name, empty when it is to be generated
	Labels      map[string]string
	Annotations map[string]string
	Containers  []Container // at least one

	ContainerConcurrency        int64 // 0 is no limit
	TimeoutSeconds              int64 // whole request, at least 1
	ResponseStartTimeoutSeconds int64 // until the first byte; 0 is off
	IdleTimeoutSeconds          int64 // without a byte; 0 is off
}

// Serving returns the container that gets the requests: the only one, or the one that declares a port.
func (t *Template) Serving() *Container {
	for i := range t.Containers {
		if len(t.Containers[i].Ports) > 0 {
			return &t.Containers[i]
		}
	}
	return &t.Containers[0]
}

// Container is one program of a pod.
type Container struct {
	Name       string
	Image      string
	Command    []string
	Args       []string
	WorkingDir string
	Env        []EnvVar
	Ports      []Port // at most one
	// ReadinessProbe is never nil for the serving container: Knative's default is a TCP connect to its port.
	ReadinessProbe *Probe
	LivenessProbe  *Probe
	StartupProbe   *Probe
}

// H2C reports whether the container speaks HTTP/2 with prior knowledge, which its port's name says.
func (c *Container) H2C() bool { return len(c.Ports) > 0 && c.Ports[0].Name == "h2c" }

// EnvVar is one environment variable, references to ConfigMaps and Secrets of the same set resolved; for a cluster they are not.
type EnvVar struct {
	Name  string
	Value string
	unset bool // an optional reference that nobody defines; never so in a loaded Set
}

// Port is a port that a container listens on. Local pods get a port of their own by PORT instead.
type Port struct {
	Name          string // h2c or http1, empty means http1
	ContainerPort int32
}

// ProbeKind is how a probe asks.
type ProbeKind uint8

// The kinds of probe.
const (
	TCPProbe ProbeKind = iota // connects
	HTTPProbe
	ExecProbe
	GRPCProbe
)

// String returns the manifest's name of the handler.
func (k ProbeKind) String() string { return [...]string{"tcpSocket", "httpGet", "exec", "grpc"}[k] }

// Probe asks a container whether it is ready, or alive. Seconds are whole seconds, as in Kubernetes.
type Probe struct {
	Kind    ProbeKind
	Host    string // empty is the pod itself
	Path    string // HTTPProbe; starts with a slash
	HTTPS   bool   // HTTPProbe with scheme HTTPS
	Headers []Header
	Port    int32    // 0 is the serving port
	Command []string // ExecProbe
	Service string   // GRPCProbe

	InitialDelaySeconds int32
	TimeoutSeconds      int32 // 0 only with PeriodSeconds 0
	PeriodSeconds       int32 // readiness: 0 asks as often as it can until the first success
	SuccessThreshold    int32
	FailureThreshold    int32 // 0 only with PeriodSeconds 0
}

// Header is one header of an HTTP probe.
type Header struct{ Name, Value string }

// TrafficTarget is one row of spec.traffic.
type TrafficTarget struct {
	Tag            string
	RevisionName   string // empty with LatestRevision
	LatestRevision bool
	Percent        int64
}

// positions finds the line of a field path.
type positions struct {
	file  string
	line  int // of the document
	lines map[string]int
}

func (p positions) where(path string) string {
	return fmt.Sprintf("%s:%d", p.file, p.lineOf(path))
}

func (p positions) lineOf(path string) int {
	for path != "" {
		if line, ok := p.lines[path]; ok {
			return line
		}
		path = parent(path)
	}
	return p.line
}

// parent cuts the last step off a path; a key in brackets may hold dots.
func parent(path string) string {
	if strings.HasSuffix(path, "]") {
		return path[:max(0, strings.LastIndexByte(path, '['))]
	}
	return path[:max(0, strings.LastIndexByte(path, '.'))]
}
