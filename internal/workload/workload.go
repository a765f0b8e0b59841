// Package workload says what an annotated Deployment or StatefulSet and its Service mean: which are opted in, which
// Service carries their traffic, what their annotations ask for, and every reason why one cannot be scaled.
//
// What it promises: the answer depends on the values that are given alone, so the same cluster always gives the same
// answer, and a fault of one workload never touches another. Every fault has a reason of one word for an Event, and a
// text that names the remedy.
//
// What it does not: watch or change a cluster. Plain structs come in and go out.
//
// Concurrency: values only.
package workload

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
)

// Annotations that tie a Service to a workload, besides the settings of package config.
const (
	// ServiceFor, on a Service, names the workload whose traffic it carries. Without it a Service belongs to the
	// workload of its own name.
	ServiceFor = config.PrefixRouse + "workload"
	// AdoptedSelector, on a Service, keeps the selector that it had before it was adopted, as JSON.
	AdoptedSelector = config.PrefixRouse + "adopted-selector"
	// Releasing, on a Service, asks that its workload keeps a pod until the Service has its selector back.
	Releasing = config.PrefixRouse + "releasing"
	// UncountedPorts, on a Service, names further ports, separated by commas, that may lead straight to pods: what is in
	// flight there is nobody's loss when the workload goes to zero.
	UncountedPorts = config.PrefixRouse + "uncounted-ports"

	classKey     = config.PrefixAutoscaling + "class"
	burstKey     = config.PrefixAutoscaling + "target-burst-capacity"
	affinityKey  = config.PrefixRouse + "session-affinity"
	knativeLabel = config.PrefixServing + "revision"
)

// Kind is the kind of object that is scaled.
type Kind string

// The kinds.
const (
	Deployment  Kind = "Deployment"
	StatefulSet Kind = "StatefulSet"
)

// Object is a Deployment or StatefulSet, as far as scaling looks at it.
type Object struct {
	Kind      Kind
	Namespace string
	Name      string
	UID       string
	Labels    map[string]string
	// Annotations are those of the pod template with those of the object itself over them.
	Annotations map[string]string
	PodLabels   map[string]string // of the pod template
	Fronts      []Front           // of its queue-proxies, as far as known
	Replicas    int               // asked for now
	At          config.At         // where annotations were written; nil in a cluster
}

// Revision is the identity of the workload. A plain Deployment changes its pods in place: its windows and its state
// outlive a rollout, so that there are no generations.
func (o *Object) Revision() identity.Revision {
	return identity.Revision{Namespace: o.Namespace, Name: o.Name, UID: o.UID}
}

// OptedIn says whether the workload asks to be scaled by us: it names one of Knative's autoscaler classes. A class of
// another domain belongs to somebody else, and so does what Knative made.
func (o *Object) OptedIn() bool {
	class, ok := o.Annotations[classKey]
	if !ok || o.Labels[knativeLabel] != "" {
		return false
	}
	return !foreignClass(class)
}

// Shed drops what nobody looks at in a workload that is not opted in. One that names no class keeps its settings: if it
// has just opted out, activators still go by them.
func (o *Object) Shed() {
	if _, named := o.Annotations[classKey]; named || len(o.Annotations) == 0 {
		o.Annotations = nil
	}
	o.Labels, o.PodLabels = nil, nil
}

// foreignClass: a class is a domain name. What has no dot is a misspelling of ours.
func foreignClass(class string) bool {
	return strings.Contains(class, ".") && !strings.HasSuffix(class, ".knative.dev")
}

// Port is one port of a Service.
type Port struct {
	Name        string
	Protocol    string // TCP when empty
	AppProtocol string
	Number      uint16 // of the Service
	Target      uint16 // on the pods, 0 when TargetName says it
	TargetName  string // of a container's port
}

// TCP says whether the port can be carried.
func (p Port) TCP() bool { return p.Protocol == "" || p.Protocol == "TCP" }

// H2C says that the port speaks HTTP/2 in clear text with prior knowledge, by its appProtocol or, as in Knative, by its
// name. Names for gRPC say so, too.
func (p Port) H2C() bool { return p.h2c() || p.grpc() }

func (p Port) h2c() bool {
	return p.AppProtocol == "kubernetes.io/h2c" || p.Name == "h2c" || strings.HasPrefix(p.Name, "h2c-") ||
		strings.HasPrefix(p.Name, "http2")
}

// grpc says that the port is named for gRPC, which is spoken by HTTP/2 alone; gRPC-Web is not.
func (p Port) grpc() bool {
	return p.AppProtocol == "grpc" || p.Name == "grpc" ||
		strings.HasPrefix(p.Name, "grpc-") && p.Name != "grpc-web" && !strings.HasPrefix(p.Name, "grpc-web-")
}

// Label is the port's name, or its number when it has none, as only the one port of a Service may.
func (p Port) Label() string {
	if p.Name == "" {
		return strconv.Itoa(int(p.Number))
	}
	return p.Name
}

// Front is a port of an application that a queue-proxy stands in front of, and the name that a container gives it, if any.
type Front struct {
	Port uint16
	Name string
}

// leads says whether the port leads to one that a queue-proxy stands in front of.
func (p Port) leads(fronts []Front) bool {
	return slices.ContainsFunc(fronts, func(f Front) bool {
		if p.TargetName != "" {
			return p.TargetName == f.Name
		}
		return cmp.Or(p.Target, p.Number) == f.Port
	})
}

// Primary chooses the port that requests are counted on: the first that is named for HTTP, else the first; when it does not
// lead to where a queue-proxy stands, the first that does. What a queue-proxy forwards to was decided when its pod was made,
// and the Service's ports may have changed since.
func Primary(ports []Port, fronts []Front) int {
	i := max(0, slices.IndexFunc(ports, func(p Port) bool { return strings.HasPrefix(p.Name, "http") || p.h2c() }))
	if len(ports) == 0 || ports[i].leads(fronts) {
		return i
	}
	if at := slices.IndexFunc(ports, func(p Port) bool { return p.leads(fronts) }); at >= 0 {
		return at
	}
	return i
}

// Service is a Service, as far as its endpoints depend on it.
type Service struct {
	Namespace   string
	Name        string
	UID         string
	Annotations map[string]string
	Selector    map[string]string
	Headless    bool
	External    bool // of type ExternalName
	IPv4, IPv6  bool // its families
	Ports       []Port
	// InternalLocal and ExternalLocal say that a node hands requests from inside the cluster, or from outside of it, to
	// endpoints of its own alone; ClientIP, that it keeps a client's address to one endpoint.
	InternalLocal, ExternalLocal, ClientIP bool
}

// selects says whether the Service's selector matches a workload's pods.
func (s *Service) selects(labels map[string]string) bool {
	for k, v := range s.Selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(s.Selector) > 0
}

// Uncounted says whether nobody needs to know of what is in flight on a further port.
func (s *Service) Uncounted(p Port) bool { return slices.Contains(s.uncounted(), p.Label()) }

func (s *Service) uncounted() []string {
	return strings.FieldsFunc(s.Annotations[UncountedPorts], func(c rune) bool { return c == ',' || c == ' ' })
}

// Adopted says whether the Service was taken over from its selector, or is about to be.
func (s *Service) Adopted() bool { return s.Annotations[AdoptedSelector] != "" }

// Rival is another autoscaler of a workload.
type Rival struct {
	What string // such as "HorizontalPodAutoscaler hello"
}

// Reason is the word of an Event.
type Reason string

// The reasons why a workload is not scaled, or why something about it should be mended.
const (
	BadSettings      Reason = "InvalidSettings"
	UnknownSettings  Reason = "UnknownSettings"
	NoService        Reason = "NoService"
	ManyServices     Reason = "SeveralServices"
	ServiceSelects   Reason = "ServiceHasSelector"
	SelectorIsBack   Reason = "SelectorIsBack"
	ServiceHeadless  Reason = "ServiceIsHeadless"
	ServiceExternal  Reason = "ServiceIsExternalName"
	ServicePorts     Reason = "ServicePorts"
	PortOrder        Reason = "ServicePortOrder"
	InternalLocal    Reason = "InternalTrafficPolicyLocal"
	ExternalLocal    Reason = "ExternalTrafficPolicyLocal"
	ClientAffinity   Reason = "SessionAffinityClientIP"
	OtherAutoscaler  Reason = "OtherAutoscaler"
	NameTaken        Reason = "NameTaken"
	PermissionDenied Reason = "PermissionDenied"
	ScaleDenied      Reason = "ScaleDenied"
	ScaleContested   Reason = "ScaleContested"
	EndpointsDenied  Reason = "EndpointsDenied"
	PortsExhausted   Reason = "ActivatorPortsExhausted"
	PortRefused      Reason = "ActivatorPortRefused"
	LeftControl      Reason = "LeftControl"
)

// Problem is one thing that is wrong with a workload.
type Problem struct {
	Reason Reason
	Text   string // names the remedy
	// Minor problems do not keep the workload from being scaled.
	Minor bool
}
