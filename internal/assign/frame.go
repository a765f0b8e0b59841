package assign

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// protocolVersion is sent with every frame. A peer skips fields that it does not know; the version is for what skipping
// cannot cover.
const protocolVersion = 1

// down is one frame from control to an activator, about one shard. The parts are applied in the order of the fields.
type down struct {
	Version int    `json:"v"`
	Shard   int    `json:"shard"`
	Epoch   uint64 `json:"epoch"`
	// Shards is how many shards there are in all, so that an activator knows when it has heard of every one.
	Shards int `json:"shards,omitempty"`
	// Begin starts a snapshot of the shard, End completes it: what was not mentioned between them is gone.
	Begin bool `json:"begin,omitempty"`
	// Disowned says that who speaks is not the owner any more, and is all that the frame says: nobody is until another
	// begins. Older activators pass over it.
	Disowned bool `json:"disowned,omitempty"`

	Revisions []wireRevision `json:"revisions,omitempty"`
	Removed   []wireID       `json:"removed,omitempty"`
	Routes    []wireRoutes   `json:"routes,omitempty"`
	Unrouted  []string       `json:"unrouted,omitempty"` // names of routes that are gone
	Grants    []wireGrant    `json:"grants,omitempty"`

	End bool `json:"end,omitempty"`
}

// up is one frame from an activator to control.
type up struct {
	Version int        `json:"v"`
	Hello   *wireHello `json:"hello,omitempty"` // first of all
	// State is ready, draining, then goodbye: the leases come back.
	State string          `json:"state,omitempty"`
	Acks  []wireAck       `json:"acks,omitempty"`
	Ports []wirePortState `json:"ports,omitempty"`
	Loads []wireLoad      `json:"loads,omitempty"`
	Idle  []wireIdle      `json:"idle,omitempty"`
}

const (
	stateReady    = "ready"
	stateDraining = "draining"
	stateGoodbye  = "goodbye"
)

type wireHello struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Addr     string `json:"addr,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Version  string `json:"version,omitempty"`
}

type wireID struct {
	Namespace  string `json:"ns"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
	Generation int64  `json:"gen,omitempty"`
}

func (w wireID) id() identity.Revision { return identity.Revision(w) }
func idOf(id identity.Revision) wireID { return wireID(id) }

// wireRevision is a revision or a part of it: what is nil has not changed.
type wireRevision struct {
	ID        wireID         `json:"id"`
	Config    *wireConfig    `json:"config,omitempty"`
	Endpoints *wireEndpoints `json:"endpoints,omitempty"`
	Failure   *string        `json:"failure,omitempty"`
}

type wireConfig struct {
	Service       string   `json:"service,omitempty"`
	Configuration string   `json:"configuration,omitempty"`
	Settings      Settings `json:"settings"`
	Ports         []uint16 `json:"ports,omitempty"`
}

// wireEndpoints is a snapshot when From is nil, else what turns the version From into Version.
type wireEndpoints struct {
	From     *uint64        `json:"from,omitempty"`
	Version  uint64         `json:"version"`
	Upserted []wireEndpoint `json:"upserted,omitempty"`
	Removed  []string       `json:"removed,omitempty"`
}

type wireEndpoint struct {
	UID      string         `json:"uid"`
	Addr     netip.AddrPort `json:"addr"`
	Protocol string         `json:"protocol"`
	State    string         `json:"state"`
	Sidecar  bool           `json:"sidecar,omitempty"`
	Zone     string         `json:"zone,omitempty"`
}

// wireGrant are the leases of one activator in one revision. Unlimited ends leasing.
type wireGrant struct {
	ID        wireID         `json:"id"`
	Seq       uint64         `json:"seq"`
	Unlimited bool           `json:"unlimited,omitempty"`
	Pods      map[string]int `json:"pods,omitempty"`
}

// wireAck says that the activator follows the grant Seq, and what it may have in flight at most until the next one: more
// than was granted while requests of before are still in flight.
type wireAck struct {
	ID        wireID         `json:"id"`
	Epoch     uint64         `json:"epoch"`
	Seq       uint64         `json:"seq"`
	Unlimited bool           `json:"unlimited,omitempty"`
	Bounds    map[string]int `json:"bounds,omitempty"`
}

type wirePortState struct {
	Port   uint16 `json:"port"`
	Open   bool   `json:"open"`
	Reason string `json:"reason,omitempty"`
}

// wireIdle says that a pod that takes nothing new has nothing of this activator's in flight.
type wireIdle struct {
	ID   wireID   `json:"id"`
	Pods []string `json:"pods"`
}

// wireLoad is what an activator has to do for a revision.
type wireLoad struct {
	ID      wireID         `json:"id"`
	Parked  int            `json:"parked,omitempty"`
	Use     map[string]int `json:"use,omitempty"`     // in flight by pod
	Blocked []string       `json:"blocked,omitempty"` // pods that it can send nothing to now; older activators do not say
}

// inFlight is what is in flight in all pods.
func (w *wireLoad) inFlight() (n int) {
	for _, in := range w.Use {
		n += in
	}
	return n
}

type wireRoutes struct {
	Name    string       `json:"name"`
	Routes  []wireRoute  `json:"routes,omitempty"`
	Answers []wireAnswer `json:"answers,omitempty"`
}

type wireRoute struct {
	Name     string        `json:"name"`
	Hosts    []string      `json:"hosts"`
	Path     string        `json:"path,omitempty"`
	Headers  []wireMatch   `json:"headers,omitempty"`
	Backends []wireBackend `json:"backends"`
}

type wireBackend struct {
	Revision wireID `json:"revision"`
	Tag      string `json:"tag,omitempty"`
	Weight   int    `json:"weight"`
}

type wireMatch struct {
	Name  string          `json:"name"`
	Kind  route.MatchKind `json:"kind,omitempty"` // the numbers of package route are part of the protocol
	Value string          `json:"value,omitempty"`
}

type wireAnswer struct {
	Name      string      `json:"name"`
	Route     string      `json:"route,omitempty"`
	Hosts     []string    `json:"hosts,omitempty"`
	Path      string      `json:"path,omitempty"`
	Headers   []wireMatch `json:"headers,omitempty"`
	PathExact bool        `json:"pathExact,omitempty"`
	Mode      route.Mode  `json:"mode,omitempty"` // the numbers of package route are part of the protocol
	Status    int         `json:"status"`
	Header    []wireField `json:"header,omitempty"`
	Body      []byte      `json:"body,omitempty"`
}

type wireField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func encodeEndpoint(e *endpoint.Endpoint) wireEndpoint {
	return wireEndpoint{
		UID: e.Pod.UID, Addr: e.Pod.Addr, Protocol: e.Protocol.String(), State: e.State.String(), Sidecar: e.Sidecar, Zone: e.Zone,
	}
}

// decode fails for a protocol that this build does not speak. A state that it does not know is no Ready: the pod is
// left alone.
func (w *wireEndpoint) decode() (endpoint.Endpoint, error) {
	e := endpoint.Endpoint{Pod: identity.Pod{UID: w.UID, Addr: w.Addr}, Sidecar: w.Sidecar, Zone: w.Zone}
	known := false
	for _, p := range []endpoint.Protocol{endpoint.H1, endpoint.H2C, endpoint.TLS} {
		if p.String() == w.Protocol {
			e.Protocol, known = p, true
		}
	}
	if !known {
		return e, fmt.Errorf("pod %s speaks %q, which this activator does not know: upgrade the activator", w.UID, w.Protocol)
	}
	for _, s := range []endpoint.State{endpoint.Ready, endpoint.Draining} {
		if s.String() == w.State {
			e.State = s
		}
	}
	return e, nil
}

// encodeEndpoints makes a delta from what the activator has, or a snapshot when it has nothing.
func encodeEndpoints(have *endpoint.Snapshot, now *endpoint.Snapshot) *wireEndpoints {
	out := &wireEndpoints{Version: now.Version}
	before := map[string]endpoint.Endpoint{}
	if have != nil {
		out.From = &have.Version
		for _, e := range have.Endpoints {
			before[e.Pod.UID] = e
		}
	}
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		if old, ok := before[e.Pod.UID]; !ok || old != *e {
			out.Upserted = append(out.Upserted, encodeEndpoint(e))
		}
		delete(before, e.Pod.UID)
	}
	for uid := range before {
		out.Removed = append(out.Removed, uid)
	}
	slices.Sort(out.Removed)
	return out
}

func encodeRoutes(r *Routes) wireRoutes {
	out := wireRoutes{Name: r.Name}
	for i := range r.Routes {
		from := &r.Routes[i]
		w := wireRoute{Name: from.Name, Hosts: from.Hosts, Path: from.Path, Headers: encodeMatches(from.Headers)}
		for _, b := range from.Backends {
			w.Backends = append(w.Backends, wireBackend{idOf(b.Revision), b.Tag, b.Weight})
		}
		out.Routes = append(out.Routes, w)
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		w := wireAnswer{
			Name: a.Name, Route: a.Route, Hosts: a.Hosts, Path: a.Path, Headers: encodeMatches(a.Headers), PathExact: a.PathExact,
			Mode: a.Mode, Status: a.Status, Body: a.Body,
		}
		for _, f := range a.Header {
			w.Header = append(w.Header, wireField(f))
		}
		out.Answers = append(out.Answers, w)
	}
	return out
}

func (w *wireRoutes) decode() route.Config {
	var out route.Config
	for i := range w.Routes {
		from := &w.Routes[i]
		r := route.Route{Name: from.Name, Hosts: from.Hosts, Path: from.Path, Headers: decodeMatches(from.Headers)}
		for _, b := range from.Backends {
			r.Backends = append(r.Backends, route.Backend{Revision: b.Revision.id(), Tag: b.Tag, Weight: b.Weight})
		}
		out.Routes = append(out.Routes, r)
	}
	for i := range w.Answers {
		a := &w.Answers[i]
		r := route.Answer{
			Name: a.Name, Route: a.Route, Hosts: a.Hosts, Path: a.Path, Headers: decodeMatches(a.Headers), PathExact: a.PathExact,
			Mode: a.Mode, Status: a.Status, Body: a.Body,
		}
		for _, f := range a.Header {
			r.Header = append(r.Header, route.Field(f))
		}
		out.Answers = append(out.Answers, r)
	}
	return out
}

func encodeMatches(hs []route.HeaderMatch) []wireMatch {
	var out []wireMatch
	for _, h := range hs {
		out = append(out, wireMatch(h))
	}
	return out
}

func decodeMatches(ws []wireMatch) []route.HeaderMatch {
	var out []route.HeaderMatch
	for _, w := range ws {
		out = append(out, route.HeaderMatch(w))
	}
	return out
}
