package inject

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/rousehq/rouse/internal/workload"
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
	at   field
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
			all = append(all, named{p, p.at("name").text(), n})
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
	a.port, a.h2c = p.port, workload.Port{Name: p.name}.H2C()
	if ok {
		t.clearText(a, p)
	}
	return a, ok
}

// clearText refuses a serving port that takes TLS: to the application the queue-proxy speaks clear text.
func (t *template) clearText(a app, p named) {
	const text = "the application serves TLS there, and the queue-proxy sends it clear text"
	if inTLS.MatchString(p.name) {
		t.fault(p.at.at("name"), fmt.Sprintf("by its name %q ", p.name)+text, plainPort)
		return
	}
	for _, probe := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
		get := a.field.at(probe).at("httpGet")
		if get.at("scheme").text() == "HTTPS" && get.at("host").text() == "" && a.names(get.at("port").text()) {
			t.fault(get.at("scheme"), text, plainPort)
			return
		}
	}
	if get, ok := t.keptProbe(a)["httpGet"].(map[string]any); ok && get["scheme"] == "HTTPS" && whole(get, "port") == a.port {
		t.fault(t.sidecar, "by the probe in its environment "+text, plainPort)
	}
}

// inTLS are the names of ports that take TLS.
var inTLS = regexp.MustCompile("^(https|tls)(-.*)?$")

// plainPort is the remedy for a port that takes TLS.
const plainPort = "name a port for clear text in the annotation " + Port + ", or opt out with the annotation " + Inject + ": disabled"

// names says whether a probe's port is the serving one.
func (a app) names(port string) bool {
	if n, ok := portNumber(port); ok {
		return n == a.port
	}
	return slices.ContainsFunc(tcpPorts(a.field), func(p named) bool { return p.name == port && p.port == a.port })
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
