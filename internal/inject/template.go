package inject

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
)

// template is a pod, or what pods are made from, on its way to a sidecar.
type template struct {
	file, object string
	root         field // what has metadata and spec
	owner        field // the workload's metadata, or the pod's own
	revision     string
	options      Options

	spec        field
	annotations map[string]string
	sidecar     field // that is there already
	faults      Faults
	changed     bool
}

func (t *template) fault(at field, text, remedy string) {
	f := Fault{File: t.file, Object: t.object, Field: at.path, Text: text, Remedy: remedy}
	if at.near != nil {
		f.Line = at.near.Line
	}
	t.faults = append(t.faults, f)
}

func (t *template) warn(at field, text, remedy string) {
	t.fault(at, text, remedy)
	t.faults[len(t.faults)-1].Minor = true
}

// tell is a fault that others find, too: see [Fault].
func (t *template) tell(at field, text, remedy string) {
	t.fault(at, text, remedy)
	t.faults[len(t.faults)-1].Told = true
}

// annotationsOf joins those of the pods and of their workload, which win.
func annotationsOf(owner, root field) map[string]string {
	all := root.at("metadata").at("annotations").strings()
	for k, v := range owner.at("annotations").strings() {
		all[k] = v
	}
	return all
}

// run injects. Nothing is changed when there is a fault that is not minor.
func (t *template) run() error {
	t.spec = t.root.at("spec")
	if t.spec.node == nil || t.spec.node.Kind != yaml.MappingNode {
		t.fault(t.spec, "there is no pod spec", "")
		return nil
	}
	t.annotations = annotationsOf(t.owner, t.root)
	if at := t.wish(); !slices.Contains([]string{"", "enabled", "true"}, at.text()) {
		t.fault(at, fmt.Sprintf("%q says neither yes nor no", at.text()), "make it enabled or disabled")
	}
	t.refuse()
	t.texts()
	t.findSidecar()
	p := &plan{revision: t.revision, service: t.revision, options: t.options, sizes: t.sizes(), kept: t.sidecar.at("resources")}
	p.config = t.settings()
	p.ports = t.ports()
	p.rootPod = t.spec.at("securityContext").at("runAsUser").text() == "0"
	a, ok := t.findApp()
	if ok {
		t.undeclared(a, p.ports)
		p.app = a
		p.probe, _ = t.findReadiness(a)
	}
	if len(t.faults.severe()) > 0 {
		return nil
	}
	return t.apply(p)
}

// texts names labels and annotations that the API server would refuse: they are read here all the same, so that nobody else
// would say so before the pods are to be made.
func (t *template) texts() {
	for _, meta := range []field{t.owner, t.root.at("metadata")} {
		for _, at := range []field{meta.at("labels"), meta.at("annotations")} {
			for _, value := range at.values() {
				switch {
				case value.node.Kind != yaml.ScalarNode:
					t.tell(value, "is no text", "")
				case !isText(value.node):
					t.tell(value, value.text()+" is no text", "put it in quotes")
				}
			}
		}
		if t.owner.node == t.root.at("metadata").node { // a pod has no owner
			return
		}
	}
}

// refuse names what a sidecar cannot live with.
func (t *template) refuse() {
	if at := t.spec.at("hostNetwork"); at.holds() {
		t.fault(at, "pods of this workload share the node's ports, so that two of them collide on the queue-proxy's",
			"remove hostNetwork, or opt out with the annotation "+Inject+": disabled")
	}
	system := t.spec.at("os").at("name")
	if system.text() == "" {
		system = t.spec.at("nodeSelector").at("kubernetes.io/os")
	}
	if system.text() == "windows" {
		t.fault(system, "the queue-proxy runs on Linux only", "opt out with the annotation "+Inject+": disabled")
	}
}

// findSidecar finds the queue-proxy of an earlier injection.
func (t *template) findSidecar() {
	for _, c := range t.spec.at("containers").items() {
		if c.at("name").text() == ContainerName {
			t.fault(c, "a container is named "+ContainerName+" already", "rename it; Knative's own pods need no injection")
		}
	}
	for _, c := range t.spec.at("initContainers").items() {
		switch {
		case isOurs(c):
			t.sidecar = c
		case c.at("name").text() == ContainerName:
			t.fault(c, "an init container is named "+ContainerName+" already, and is none of ours", "rename it")
		}
	}
}

// injected says whether the queue-proxy is in the pod.
func (t *template) injected() bool {
	return slices.ContainsFunc(t.root.at("spec").at("initContainers").items(), isOurs)
}

// isOurs knows a queue-proxy that was injected, by any version: a native sidecar of that name which knows the application.
func isOurs(c field) bool {
	return c.at("name").text() == ContainerName && c.at("restartPolicy").text() == "Always" && environment(c)["USER_PORT"] != ""
}

// environment returns a container's variables that have a plain value.
func environment(c field) map[string]string {
	env := make(map[string]string)
	for _, e := range c.at("env").items() {
		env[e.at("name").text()] = e.at("value").text()
	}
	return env
}

// settings are those of the workload, with the same rules as control's.
func (t *template) settings() *config.Revision {
	base := config.DefaultAutoscaler()
	base.AllowZeroInitialScale.V = true
	in := config.Input{ID: identity.Revision{Name: t.revision}, Annotations: t.annotations, Autoscaler: base,
		Above: config.Layers{Flags: map[string]string{"initial-scale": "0"}}}
	faults := append(in.SpecFromAnnotations(), t.workload().ClassFaults()...)
	rev, more := config.Resolve(in)
	judged := t.workload().OptedIn()
	for _, f := range append(faults, more...) {
		t.fault(t.annotation(f.Key), f.Error(), "")
		t.faults[len(t.faults)-1].Told = judged
	}
	for _, key := range config.UnknownOnWorkloads(t.annotations) {
		t.warn(t.annotation(key), "nothing reads it", "remove it, or mend its spelling")
		t.faults[len(t.faults)-1].Told = judged
	}
	return rev
}

// annotation returns the place of an annotation: its workload's, or its own.
func (t *template) annotation(key string) field {
	if at := t.owner.at("annotations").at(key); at.node != nil {
		return at
	}
	return t.root.at("metadata").at("annotations").at(key)
}

// ports are those of the queue-proxy, none of which another container may have.
func (t *template) ports() PortSet {
	p, err := PortsOf(t.annotations[Ports])
	if err != nil {
		t.fault(t.annotation(Ports), err.Error(), "")
		return p
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range t.spec.at(list).items() {
			if c.node == t.sidecar.node {
				continue
			}
			t.collisions(c, p)
		}
	}
	return p
}

func (t *template) collisions(c field, p PortSet) {
	for _, own := range p.list() {
		for _, port := range c.at("ports").items() {
			if isTCP(port) && port.at("containerPort").number(0) == own.Port {
				t.fault(port.at("containerPort"), fmt.Sprintf("port %d of container %s is the queue-proxy's", own.Port, c.at("name").text()), elsewhere(own))
			}
		}
	}
}

// elsewhere is the remedy for a port that the application needs.
func elsewhere(own containerPort) string {
	role := map[string]string{ServingPortName: "serving", "http-queueadm": "admin", "http-autometric": "stats", "http-usermetric": "metrics"}[own.Name]
	other := own.Port + 10000
	if other > 65535 {
		other -= 20000
	}
	return fmt.Sprintf("move the queue-proxy's by the annotation %s: %s=%d", Ports, role, other)
}

// undeclared finds a serving port that only the annotation names, which is the queue-proxy's: it would ask itself.
func (t *template) undeclared(a app, p PortSet) {
	declared := slices.ContainsFunc(tcpPorts(a.field), func(n named) bool { return n.port == a.port })
	for _, own := range p.list() {
		if own.Port == a.port && !declared { // else it is among the collisions
			t.fault(t.annotation(Port), fmt.Sprintf("port %d is the queue-proxy's", own.Port), elsewhere(own))
		}
	}
}

// apply writes the plan into the pod. Each step leaves alone what is right already.
func (t *template) apply(p *plan) error {
	steps := []func(*plan) (bool, error){t.putSidecar, t.moveProbe, t.putHook, t.raiseGrace, t.putToken}
	for _, step := range steps {
		changed, err := step(p)
		if err != nil {
			return fmt.Errorf("%s: %w", t.object, err)
		}
		t.changed = t.changed || changed
	}
	return nil
}

func (t *template) putSidecar(p *plan) (bool, error) {
	c, err := encode(p.sidecar())
	if err != nil {
		return false, err
	}
	if t.sidecar.node != nil {
		return overlay(t.sidecar.node, c)
	}
	list := t.spec.at("initContainers").node
	if list == nil || list.Kind != yaml.SequenceNode {
		return put(t.spec.node, "initContainers", &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{c}})
	}
	list.Style = 0
	list.Content = append(list.Content, c)
	return true, nil
}

// moveProbe takes the readiness probe away from kubelet, which asks the queue-proxy instead.
func (t *template) moveProbe(p *plan) (bool, error) {
	return p.probe.moved && drop(p.app.field.node, "readinessProbe"), nil
}

// putHook makes the end of the application wait for the drain. A container has one hook: one that is there stays.
func (t *template) putHook(p *plan) (bool, error) {
	hook := handler{HTTPGet: httpGet{Path: drainPath, Port: p.ports.Admin}}
	at := p.app.field.at("lifecycle")
	if at.node == nil || at.node.Kind != yaml.MappingNode {
		return put(p.app.field.node, "lifecycle", lifecycle{PreStop: hook})
	}
	if own := at.at("preStop"); own.node != nil && own.at("httpGet").at("path").text() != drainPath {
		if commands(own, fmt.Sprintf(":%d%s", p.ports.Admin, drainPath)) {
			return false, nil
		}
		t.warn(own, "the container has a preStop hook of its own, which does not wait for requests in flight",
			fmt.Sprintf("let it end with GET http://127.0.0.1:%d%s, or remove it", p.ports.Admin, drainPath))
		return false, nil
	}
	return put(at.node, "preStop", hook)
}

// commands says whether a hook runs a command in which a text occurs.
func commands(hook field, text string) bool {
	return slices.ContainsFunc(hook.at("exec").at("command").items(), func(part field) bool { return strings.Contains(part.text(), text) })
}

// margin is what is left of the grace period for the application itself when the longest drain is over.
const margin = 30

// raiseGrace gives the drain the time that a request may take, and the application what Kubernetes gives by default.
func (t *template) raiseGrace(p *plan) (bool, error) {
	need := int(p.config.Timeout.V.Seconds()) + margin
	if t.spec.at("terminationGracePeriodSeconds").number(0) >= need {
		return false, nil
	}
	return put(t.spec.node, "terminationGracePeriodSeconds", need)
}

// putToken mounts the token that the sidecar shows to control, and takes away one that it shows no longer: a volume costs
// cold starts time.
func (t *template) putToken(p *plan) (bool, error) {
	if p.options.TokenAudience == "" {
		return t.dropToken(), nil
	}
	source := map[string]any{"serviceAccountToken": map[string]any{"audience": p.options.TokenAudience, "expirationSeconds": tokenLife, "path": tokenFile}}
	v, err := encode(map[string]any{"name": tokenVolume, "projected": map[string]any{"sources": []any{source}}})
	if err != nil {
		return false, err
	}
	volumes := t.spec.at("volumes")
	for _, have := range volumes.items() {
		if have.at("name").text() != tokenVolume {
			continue
		}
		if same(have.node, v) {
			return false, nil
		}
		*have.node = *v
		return true, nil
	}
	if volumes.node == nil || volumes.node.Kind != yaml.SequenceNode {
		return put(t.spec.node, "volumes", &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{v}})
	}
	volumes.node.Style = 0
	volumes.node.Content = append(volumes.node.Content, v)
	return true, nil
}

func (t *template) dropToken() bool {
	volumes := t.spec.at("volumes").node
	if volumes == nil {
		return false
	}
	before := len(volumes.Content)
	volumes.Content = slices.DeleteFunc(volumes.Content, func(n *yaml.Node) bool { return field{node: resolved(n)}.at("name").text() == tokenVolume })
	return len(volumes.Content) < before
}

// nameOf is how people call an object.
func nameOf(kind string, metadata field) string {
	ns, name := metadata.at("namespace").text(), metadata.at("name").text()
	if name == "" {
		name = strings.TrimSuffix(metadata.at("generateName").text(), "-")
	}
	if ns != "" {
		name = ns + "/" + name
	}
	return kind + " " + name
}
