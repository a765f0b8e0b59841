package manifest

import (
	"fmt"
	"slices"
)

// containers reads the containers; it returns none when none can be run.
func (l *loader) containers(spec *object) []Container {
	c, ok := spec.need("containers", "write at least one, with an image")
	if !ok {
		return nil
	}
	var out []Container
	start := len(l.bulks)
	c.each(func(_ int, item cursor) {
		if o, ok := item.object(); ok {
			l.envFrom(o, len(out))
			out = append(out, l.container(o))
		}
	})
	for i := range l.bulks[start:] {
		b := &l.bulks[start+i]
		b.target = &out[b.index]
	}
	if len(out) == 0 && c.node.Content == nil {
		c.errorf("write at least one, with an image", "is empty")
	}
	nameContainers(out)
	l.serving(c, out)
	return out
}

// nameContainers gives Knative's default names.
func nameContainers(cs []Container) {
	next := 0
	for i := range cs {
		if cs[i].Name != "" {
			continue
		}
		cs[i].Name = "user-container"
		for len(cs) > 1 {
			cs[i].Name = fmt.Sprintf("user-container-%d", next)
			next++
			if !slices.ContainsFunc(cs[:i], func(c Container) bool { return c.Name == cs[i].Name }) {
				break
			}
		}
	}
}

// serving checks that exactly one container takes the requests and gives it its default probe.
func (l *loader) serving(c cursor, cs []Container) {
	ported := 0
	for _, ctr := range cs {
		ported += len(ctr.Ports[:min(1, len(ctr.Ports))])
	}
	switch {
	case len(cs) == 0:
		return
	case ported > 1 || (len(cs) > 1 && ported == 0):
		c.errorf("give ports to the container that takes the requests, and to no other", "%d of %d containers have ports, must be one", ported, len(cs))
	case len(cs) > 1:
		c.warnf("", "only the container with ports is started as a local process yet")
	}
	t := Template{Containers: cs}
	s := t.Serving()
	if s.ReadinessProbe == nil {
		s.ReadinessProbe = &Probe{Kind: TCPProbe, SuccessThreshold: 1}
	}
}

func (l *loader) container(o *object) Container {
	defer o.done()
	var c Container
	if n, ok := o.take("name"); ok {
		c.Name = n.label()
	}
	c.Image = o.text("image")
	c.Command, c.Args = o.texts("command"), o.texts("args")
	if c.Image == "" && len(c.Command) == 0 {
		o.errorf("write an image, or the command to run", "image is missing")
	}
	c.WorkingDir = o.text("workingDir")
	c.Env = l.env(o)
	c.Ports = o.ports()
	c.ReadinessProbe = o.probe("readinessProbe", c.Ports)
	c.LivenessProbe = o.probe("livenessProbe", c.Ports)
	c.StartupProbe = o.probe("startupProbe", c.Ports)
	o.skip("imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy")
	o.unbuilt("is not enforced for local processes", "resources", "securityContext")
	o.unbuilt("is not mounted for local processes, which see this machine's files", "volumeMounts")
	for _, name := range []string{"lifecycle", "stdin", "stdinOnce", "tty", "volumeDevices"} {
		if f, ok := o.take(name); ok {
			f.errorf("leave it out", "is not allowed in a Service")
		}
	}
	return c
}

func (o *object) ports() []Port {
	c, ok := o.take("ports")
	if !ok {
		return nil
	}
	var out []Port
	c.each(func(_ int, item cursor) {
		p, ok := item.object()
		if !ok {
			return
		}
		defer p.done()
		port := Port{ContainerPort: int32(p.integer("containerPort", 1, 65535, 8080, "PORT tells the local process its own"))}
		if n, ok := p.take("name"); ok {
			port.Name, _ = n.text()
			if port.Name != "h2c" && port.Name != "http1" && port.Name != "" {
				n.errorf("", "is %q, must be h2c, http1 or empty", clip(port.Name))
			}
		}
		if n, ok := p.take("protocol"); ok {
			if s, ok := n.text(); ok && s != "TCP" {
				n.errorf("", "is %q, must be TCP", clip(s))
			}
		}
		out = append(out, port)
	})
	if len(out) > 1 {
		c.errorf("keep the one that takes the requests", "has %d ports, must be one", len(out))
	}
	return out[:min(1, len(out))]
}
