package inject

import (
	"encoding/json"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// drainPath is what the hook of an injected application asks.
const drainPath = "/wait-for-drain"

// optedOut says whether the workload asks for no sidecar in so many words.
func (t *template) optedOut() bool {
	wish := t.wish().text()
	return wish == "disabled" || wish == "false"
}

// takeOut takes away what an injection has put in, and gives the container its readiness probe back. Nothing is changed when
// that can't be done: a pod without the probe would get requests before it can answer them.
func (t *template) takeOut() error {
	t.annotations, t.spec = annotationsOf(t.owner, t.root), t.root.at("spec")
	t.findSidecar()
	if err := t.giveProbeBack(); err != nil || len(t.faults.severe()) > 0 {
		return err
	}
	for _, c := range t.spec.at("containers").items() {
		hooks := c.at("lifecycle")
		if hooks.at("preStop").at("httpGet").at("path").text() != drainPath {
			continue
		}
		drop(hooks.node, "preStop")
		dropEmpty(c.node, "lifecycle")
	}
	list := t.spec.at("initContainers").node
	for i, c := range list.Content {
		if resolved(c) == t.sidecar.node {
			list.Content = append(list.Content[:i:i], list.Content[i+1:]...)
			break
		}
	}
	dropEmpty(t.spec.node, "initContainers")
	t.dropToken()
	dropEmpty(t.spec.node, "volumes")
	t.changed = true
	t.sayGrace()
	return nil
}

// giveProbeBack puts the readiness probe where it was, unless there was none or the container has one of its own.
func (t *template) giveProbeBack() error {
	env := environment(t.sidecar)
	port, _ := portNumber(env["USER_PORT"])
	if made, err := json.Marshal(connects(port)); err != nil || env["SERVING_READINESS_PROBE"] == string(made) {
		return err // it was made up
	}
	a, ok := t.findApp()
	if !ok {
		t.fault(t.sidecar, "the readiness probe can't be given back to a container", "start from the manifest that was injected into")
		return nil
	}
	if a.field.at("readinessProbe").node != nil {
		return nil
	}
	probe := t.keptProbe(a)
	if len(probe) == 0 {
		t.fault(t.sidecar, "the readiness probe in its SERVING_READINESS_PROBE can't be read", "start from the manifest that was injected into")
		return nil
	}
	_, err := put(a.field.node, "readinessProbe", probe)
	return err
}

// sayGrace tells of a grace period as injection makes it: what it was before is written nowhere.
func (t *template) sayGrace() {
	at := t.spec.at("terminationGracePeriodSeconds")
	timeout, err := strconv.Atoi(environment(t.sidecar)["REVISION_TIMEOUT_SECONDS"])
	if err == nil && at.number(0) == timeout+margin {
		t.warn(at, "stays at "+at.text()+": what it was before the injection is not known", "remove it, or write what it was")
	}
}

// dropEmpty removes a list or mapping that has nothing left.
func dropEmpty(n *yaml.Node, key string) {
	if v := lookup(n, key); v != nil && v.Kind != yaml.ScalarNode && len(v.Content) == 0 {
		drop(n, key)
	}
}
