package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"go.yaml.in/yaml/v3"
)

// readiness is what the queue-proxy asks, and how kubelet asks the queue-proxy.
type readiness struct {
	json                               string
	delay, timeout                     int
	failureThreshold, successThreshold int
	paced                              bool // the queue-proxy keeps to the probe's period
	moved                              bool // it is the container's own
}

// Kubelet asks the queue-proxy each second, so that a pod is ready within a second of its application. The queue-proxy keeps to
// the probe's own period once the pod is ready, and answers so that kubelet's thresholds are those of the probe (package
// queueproxy/readiness). Without a period of its own a probe waits in the queue-proxy, for so long:
const (
	askPeriod = 1
	patience  = 10
)

// findReadiness takes over the container's readiness probe. Without one, or with one that only kubelet can run, a
// connection to the port is asked for. What an earlier injection took over is found in the sidecar.
func (t *template) findReadiness(a app) (readiness, bool) {
	own := a.field.at("readinessProbe")
	switch {
	case own.node == nil:
		if wire := t.keptProbe(a); wire != nil {
			return t.newReadiness(t.sidecar, wire)
		}
		return t.newReadiness(own, connects(a.port))
	case own.at("exec").node != nil:
		return t.newReadiness(own, connects(a.port))
	}
	wire, err := decoded(own.node)
	if err != nil {
		t.fault(own, "is no probe: "+err.Error(), "")
		return readiness{}, false
	}
	asks := 0
	for _, kind := range []string{"httpGet", "tcpSocket", "grpc"} {
		h, ok := wire[kind].(map[string]any)
		if !ok {
			continue
		}
		if asks++; !t.resolvePort(own.at(kind), a, h) {
			return readiness{}, false
		}
	}
	if asks != 1 { // the queue-proxy would not start with it
		t.fault(own, fmt.Sprintf("asks in %d ways", asks), "give it one of httpGet, tcpSocket, grpc and exec, or remove it")
		return readiness{}, false
	}
	if !t.options.KnativeProbes {
		complete(wire)
	}
	r, ok := t.newReadiness(own, wire)
	r.moved = true
	return r, ok
}

// decoded reads a probe. Its fields that are null are missing.
func decoded(n *yaml.Node) (wire map[string]any, err error) {
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("it has no fields")
	}
	if err := n.Decode(&wire); err != nil {
		return nil, err
	}
	for key, v := range wire {
		if v == nil {
			delete(wire, key)
		}
	}
	return wire, nil
}

// numbers are the fields of a probe that are whole numbers.
var numbers = []string{"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"}

// wholeNumbers refuses what no API server takes: in the sidecar's environment none looks at it.
func (t *template) wholeNumbers(own field, wire map[string]any) bool {
	for _, key := range numbers {
		if v, ok := wire[key]; ok && whole(wire, key) < 0 {
			t.fault(own.at(key), fmt.Sprintf("%v is no whole number from 0 to %d", v, math.MaxInt32), "")
			return false
		}
	}
	return true
}

// whole returns a number of a probe, 0 when it is missing and -1 when it is none.
func whole(wire map[string]any, key string) int {
	n := -1
	switch v := wire[key].(type) {
	case nil:
		n = 0
	case int:
		n = v
	case float64: // from JSON
		if v == math.Trunc(v) && math.Abs(v) <= math.MaxInt32 {
			n = int(v)
		}
	}
	if n > math.MaxInt32 {
		return -1
	}
	return n
}

// resolvePort replaces a port's name by its number: the queue-proxy does not see the container's ports.
func (t *template) resolvePort(at field, a app, h map[string]any) bool {
	name, ok := h["port"].(string)
	if !ok {
		return true
	}
	if n, ok := portNumber(name); ok {
		h["port"] = n
		return true
	}
	for _, p := range tcpPorts(a.field) {
		if p.name == name {
			h["port"] = p.port
			return true
		}
	}
	t.fault(at.at("port"), fmt.Sprintf("the container has no port named %q", name), "name one of its ports")
	return false
}

// newReadiness decides how the queue-proxy asks and is asked.
func (t *template) newReadiness(own field, wire map[string]any) (r readiness, ok bool) {
	if !t.wholeNumbers(own, wire) {
		return r, false
	}
	if r.paced = whole(wire, "periodSeconds") > 0; r.paced {
		complete(wire)
	}
	b, err := json.Marshal(wire)
	if err != nil {
		t.fault(own, "is no probe: keys must be texts", "")
		return r, false
	}
	r.json, r.delay = string(b), whole(wire, "initialDelaySeconds")
	r.failureThreshold, r.successThreshold = whole(wire, "failureThreshold"), whole(wire, "successThreshold")
	if r.timeout = patience; r.paced { // an answer waits for the next question to the application
		r.timeout = min(whole(wire, "periodSeconds")+whole(wire, "timeoutSeconds"), math.MaxInt32)
	}
	return r, true
}

// complete fills in what the API server does when a probe stays where it is
// (https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/apis/core/v1/defaults.go).
func complete(wire map[string]any) {
	for key, v := range map[string]int{"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3} {
		if whole(wire, key) == 0 {
			wire[key] = v
		}
	}
	if whole(wire, "initialDelaySeconds") == 0 {
		delete(wire, "initialDelaySeconds")
	}
	def := func(kind, key, v string) {
		if h, ok := wire[kind].(map[string]any); ok && (h[key] == nil || h[key] == "") {
			h[key] = v
		}
	}
	def("httpGet", "path", "/")
	def("httpGet", "scheme", "HTTP")
	def("grpc", "service", "")
}

// connects is the probe of an application that has none. It is patient: it has no period.
func connects(port int) map[string]any {
	return map[string]any{"tcpSocket": map[string]any{"port": port}, "successThreshold": 1}
}

// keptProbe reads what an earlier injection has moved into the sidecar, nil when there is none. What it made up itself is made up
// again, and what asked the application's port follows it to another.
func (t *template) keptProbe(a app) (wire map[string]any) {
	env := environment(t.sidecar)
	port, _ := portNumber(env["USER_PORT"])
	kept := env["SERVING_READINESS_PROBE"]
	if made, err := json.Marshal(connects(port)); err != nil || kept == string(made) || json.Unmarshal([]byte(kept), &wire) != nil {
		return nil
	}
	for _, kind := range wire {
		if h, ok := kind.(map[string]any); ok && h["port"] == float64(port) {
			h["port"] = a.port
		}
	}
	return wire
}

// kubelet is how kubelet asks the queue-proxy.
func (r readiness) kubelet(port int) probe {
	p := probe{
		HTTPGet:             httpGet{Path: "/", Port: port, Headers: []header{{"K-Network-Probe", "queue"}}},
		InitialDelaySeconds: r.delay, PeriodSeconds: askPeriod, TimeoutSeconds: r.timeout,
		FailureThreshold: r.failureThreshold,
	}
	if r.successThreshold > 1 { // else it is the default
		p.SuccessThreshold = r.successThreshold
	}
	return p
}
