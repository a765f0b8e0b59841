package manifest

import (
	"math"
	"strings"
)

// handlers are the ways to probe; exactly one may be written.
var handlers = []string{"httpGet", "tcpSocket", "exec", "grpc"}

// probe reads a probe; nil when it is not written.
func (o *object) probe(name string, ports []Port) *Probe {
	c, ok := o.take(name)
	if !ok {
		return nil
	}
	f, ok := c.object()
	if !ok {
		return nil
	}
	defer f.done()
	p := &Probe{}
	f.handler(p, ports)
	f.timing(p, name == "readinessProbe")
	switch {
	case name != "readinessProbe":
		c.warnf("", "is not run for local processes yet; a process that exits is replaced")
	case p.Kind == ExecProbe || p.Kind == GRPCProbe:
		c.warnf("use httpGet or tcpSocket", "%s probes are not run for local processes yet; a TCP connect stands in", p.Kind)
	case p.Port != 0:
		c.warnf("", "port %d is not asked: many processes share this machine, so each is probed at its own PORT", p.Port)
	case p.HTTPS:
		c.warnf("", "scheme HTTPS is not built for local processes: plain HTTP is asked")
	}
	f.unbuilt("is not used for local processes yet", "terminationGracePeriodSeconds")
	return p
}

// handler reads how the probe asks; Knative's default is a TCP connect to the serving port.
func (o *object) handler(p *Probe, ports []Port) {
	written := 0
	for kind, name := range handlers {
		c, ok := o.take(name)
		if !ok {
			continue
		}
		written++
		h, ok := c.object()
		if !ok {
			continue
		}
		switch kind {
		case 0:
			p.Kind = HTTPProbe
			h.httpGet(p, ports)
		case 1:
			p.Kind = TCPProbe
			p.Host, p.Port = h.text("host"), h.port(ports)
		case 2:
			p.Kind = ExecProbe
			p.Command = h.texts("command")
		case 3:
			p.Kind = GRPCProbe
			p.Service, p.Port = h.text("service"), h.port(ports)
		}
		h.done()
	}
	if written > 1 {
		o.errorf("keep one", "has %d of %s", written, strings.Join(handlers, ", "))
	}
}

func (o *object) httpGet(p *Probe, ports []Port) {
	p.Host, p.Port = o.text("host"), o.port(ports)
	p.Path = o.text("path")
	if !strings.HasPrefix(p.Path, "/") {
		p.Path = "/" + p.Path
	}
	if c, ok := o.take("scheme"); ok {
		s, ok := c.text()
		if ok && s != "HTTP" && s != "HTTPS" {
			c.errorf("", "is %q, must be HTTP or HTTPS", clip(s))
		}
		p.HTTPS = s == "HTTPS"
	}
	if c, ok := o.take("httpHeaders"); ok {
		c.each(func(_ int, item cursor) {
			if h, ok := item.object(); ok {
				p.Headers = append(p.Headers, Header{h.text("name"), h.text("value")})
				h.done()
			}
		})
	}
}

// port reads a port by number or by the name of the container's port; 0 is the serving port.
func (o *object) port(ports []Port) int32 {
	c, ok := o.take("port")
	if !ok {
		return 0
	}
	if c.node.ShortTag() != "!!str" {
		n, _ := c.integer(0, 65535, "0 is the serving port")
		return o.serving(int32(n), ports)
	}
	name, _ := c.text()
	if len(ports) == 0 || ports[0].Name != name {
		c.errorf("or leave it out", "is %q, must be the name of the container's port", clip(name))
	}
	return 0
}

// serving maps the number of the container's port to 0: locally a process listens on a port that Rouse chose.
func (o *object) serving(n int32, ports []Port) int32 {
	if (len(ports) > 0 && ports[0].ContainerPort == n) || (len(ports) == 0 && n == 8080) {
		return 0
	}
	return n
}

// timing reads a probe's seconds and thresholds. Without periodSeconds a readiness probe is Knative's fast one,
// which has neither a timeout nor a failure threshold of its own.
func (o *object) timing(p *Probe, readiness bool) {
	seconds := func(name string, lo int64, unset int32) int32 {
		return int32(o.integer(name, lo, math.MaxInt32, int64(unset), ""))
	}
	p.InitialDelaySeconds = seconds("initialDelaySeconds", 0, 0)
	p.SuccessThreshold = seconds("successThreshold", 1, 1)
	period, timeout, failures := int32(10), int32(1), int32(3)
	if readiness {
		period = 0
	}
	p.PeriodSeconds = seconds("periodSeconds", 0, period)
	if p.PeriodSeconds == 0 && !readiness {
		p.PeriodSeconds = period
	}
	if p.PeriodSeconds == 0 {
		o.disallowFast("timeoutSeconds", "failureThreshold")
		return
	}
	p.TimeoutSeconds = seconds("timeoutSeconds", 1, timeout)
	p.FailureThreshold = seconds("failureThreshold", 1, failures)
}

func (o *object) disallowFast(names ...string) {
	for _, name := range names {
		if o.integer(name, 0, math.MaxInt32, 0, "") == 0 {
			continue
		}
		c, _ := o.take(name)
		c.errorf("set periodSeconds, or leave it out", "is not allowed without periodSeconds, which makes the probe Knative's fast one")
	}
}
