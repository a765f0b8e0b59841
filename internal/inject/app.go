package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// app is the container that serves.
type app struct {
	field field
	name  string
	port  int
	h2c   bool
}

// serving are the names of ports that say which one takes requests.
var serving = []string{"user-port", "http", "http1", "h2c", "http2", "web"}

type named struct {
	name string
	port int
}

// tcpPorts returns the ports that a container declares.
func tcpPorts(c field) (all []named) {
	for _, p := range c.at("ports").items() {
		if !isTCP(p) {
			continue
		}
		if n := p.at("containerPort").number(0); n > 0 {
			all = append(all, named{p.at("name").text(), n})
		}
	}
	return all
}

func isTCP(port field) bool {
	proto := port.at("protocol").text()
	return proto == "" || proto == "TCP"
}

func servingPorts(all []named) (some []named) {
	for _, p := range all {
		if slices.Contains(serving, p.name) {
			some = append(some, p)
		}
	}
	return some
}

// findApp finds the container and the port that serve, by the annotations or because there is only one that can be meant.
func (t *template) findApp() (app, bool) {
	containers := t.spec.at("containers")
	if len(containers.items()) == 0 {
		t.fault(containers, "the pod has no container", "")
		return app{}, false
	}
	c, ok := t.findContainer(containers)
	if !ok {
		return app{}, false
	}
	a := app{field: c, name: c.at("name").text()}
	p, ok := t.findPort(c)
	a.port, a.h2c = p.port, p.name == "h2c" || p.name == "http2" || strings.HasPrefix(p.name, "grpc")
	return a, ok
}

func (t *template) findContainer(containers field) (field, bool) {
	want := t.annotations[Container]
	var able, sure []field
	for _, c := range containers.items() {
		if want != "" && c.at("name").text() == want {
			return c, true
		}
		all := tcpPorts(c)
		if len(all) > 0 {
			able = append(able, c)
		}
		if len(servingPorts(all)) > 0 {
			sure = append(sure, c)
		}
	}
	switch items := containers.items(); {
	case want != "":
		t.fault(containers, fmt.Sprintf("there is no container %q", want), "name one of them in the annotation "+Container)
	case len(able) == 1:
		return able[0], true
	case len(sure) == 1:
		return sure[0], true
	case len(items) == 1 && t.annotations[Port] != "":
		return items[0], true
	case len(able) == 0:
		t.fault(containers.items()[0].at("ports"), "no container says on which port it serves",
			"add ports: [{name: http, containerPort: N}], or the annotation "+Port)
	default:
		t.fault(containers, fmt.Sprintf("%d containers have ports, and which one serves is not plain", len(able)),
			"name its port http, or the container in the annotation "+Container)
	}
	return field{}, false
}

func (t *template) findPort(c field) (named, bool) {
	all := tcpPorts(c)
	if want := t.annotations[Port]; want != "" {
		for _, p := range all {
			if p.name == want {
				return p, true
			}
		}
		n, ok := portNumber(want)
		if !ok {
			t.fault(c.at("ports"), fmt.Sprintf("the annotation %s = %q is neither a port's name nor a number", Port, want), "")
			return named{}, false
		}
		for _, p := range all {
			if p.port == n {
				return p, true
			}
		}
		return named{port: n}, true
	}
	if len(all) == 1 {
		return all[0], true
	}
	if sure := servingPorts(all); len(sure) == 1 {
		return sure[0], true
	}
	t.fault(c.at("ports"), fmt.Sprintf("the container has %d ports, and which one serves is not plain", len(all)),
		"name it http, or name it in the annotation "+Port)
	return named{}, false
}

// readiness is what the queue-proxy asks, and how kubelet asks the queue-proxy.
type readiness struct {
	json                               string
	delay, timeout                     int
	failureThreshold, successThreshold int
	moved                              bool // it is the container's own
}

// Kubelet asks the queue-proxy each second, so that a pod is ready within a second of its application; what it forgives
// is counted in the application's own time. Without a period of its own a probe waits in the queue-proxy, for so long:
const (
	askPeriod      = 1
	patience       = 10
	usualThreshold = 3 // Kubernetes' default
)

// findReadiness takes over the container's readiness probe. Without one, or with one that only kubelet can run, a
// connection to the port is asked for. What an earlier injection took over is found in the sidecar.
func (t *template) findReadiness(a app) (readiness, bool) {
	own := a.field.at("readinessProbe")
	if own.node == nil || own.at("exec").node != nil {
		if kept, ok := t.keptReadiness(a); ok && own.node == nil {
			return kept, true
		}
		return newReadiness(connects(a.port), field{}), true
	}
	wire, ok := own.value().(map[string]any)
	if !ok {
		t.fault(own, "is no probe", "")
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
	r := newReadiness(wire, own)
	r.moved = true
	return r, true
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

func newReadiness(wire map[string]any, own field) readiness {
	b, err := json.Marshal(wire)
	if err != nil { // a YAML mapping with keys that are no texts
		b = nil
	}
	r := readiness{
		json: string(b), delay: own.at("initialDelaySeconds").number(0), timeout: max(1, own.at("timeoutSeconds").number(1)),
		failureThreshold: own.at("failureThreshold").number(0), successThreshold: own.at("successThreshold").number(0),
	}
	period := own.at("periodSeconds").number(0)
	if period == 0 {
		r.timeout = patience
	}
	if period > askPeriod {
		if r.failureThreshold == 0 {
			r.failureThreshold = usualThreshold
		}
		r.failureThreshold = min(r.failureThreshold*(period/askPeriod), 1<<31-1)
	}
	return r
}

// connects is the probe of an application that has none.
func connects(port int) map[string]any {
	return map[string]any{"tcpSocket": map[string]any{"port": port}, "successThreshold": 1}
}

// keptReadiness reads what an earlier injection has moved into the sidecar. What it made up itself is made up again, and
// what asked the application's port follows it to another.
func (t *template) keptReadiness(a app) (readiness, bool) {
	env := environment(t.sidecar)
	port, _ := portNumber(env["USER_PORT"])
	kept := env["SERVING_READINESS_PROBE"]
	if kept == "" || kept == newReadiness(connects(port), field{}).json {
		return readiness{}, false
	}
	if port != a.port {
		kept = movedTo(kept, port, a.port)
	}
	p := t.sidecar.at("readinessProbe")
	return readiness{
		json: kept, delay: p.at("initialDelaySeconds").number(0), timeout: p.at("timeoutSeconds").number(1),
		failureThreshold: p.at("failureThreshold").number(0), successThreshold: p.at("successThreshold").number(0),
	}, true
}

// movedTo is a probe that asks another port where it asked the old one.
func movedTo(probe string, old, port int) string {
	var wire map[string]any
	if json.Unmarshal([]byte(probe), &wire) != nil {
		return probe
	}
	for _, kind := range wire {
		if h, ok := kind.(map[string]any); ok && h["port"] == float64(old) {
			h["port"] = port
		}
	}
	if b, err := json.Marshal(wire); err == nil {
		return string(b)
	}
	return probe
}

// kubelet is how kubelet asks the queue-proxy.
func (r readiness) kubelet(port int) probe {
	return probe{
		HTTPGet:             httpGet{Path: "/", Port: port, Headers: []header{{"K-Network-Probe", "queue"}}},
		InitialDelaySeconds: r.delay, PeriodSeconds: askPeriod, TimeoutSeconds: r.timeout,
		FailureThreshold: r.failureThreshold, SuccessThreshold: r.successThreshold,
	}
}
