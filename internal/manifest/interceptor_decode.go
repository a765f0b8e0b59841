package manifest

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/route"
)

// maxBody is how long a fixed response may be, as in the HTTP add-on.
const maxBody = 32 << 10

// interceptorRoute decodes an InterceptorRoute.
func (l *loader) interceptorRoute(o *object) {
	r := InterceptorRoute{}
	_, _, valid := l.metadata(o, true)
	o.skip("status")
	defer o.done()
	s, ok := o.need("spec", "")
	if !ok {
		return
	}
	spec, ok := s.object()
	if !ok {
		return
	}
	defer spec.done()
	if t, ok := spec.need("target", "name the service that gets the requests"); ok {
		r.Service = l.routeTarget(t)
	}
	r.Rules = spec.matchRules()
	r.Static = spec.staticRoutes()
	r.Placeholder = spec.placeholder()
	spec.unbuilt("has no effect: the service's own annotations decide its scale", "scalingMetric")
	spec.unbuilt("has no effect: the service's own timeouts and queue deadline hold", "timeouts")
	if valid && r.Service != "" {
		r.Object = *o.obj
		l.set.InterceptorRoutes = append(l.set.InterceptorRoutes, r)
	}
}

// routeTarget reads the service's name; its port says nothing where PORT is chosen by us.
func (l *loader) routeTarget(c cursor) string {
	o, ok := c.object()
	if !ok {
		return ""
	}
	defer o.done()
	o.skip("port", "portName")
	name, ok := o.need("service", "name the service that gets the requests")
	if !ok {
		return ""
	}
	s, _ := name.text()
	l.targets = append(l.targets, routeTarget{name, s})
	return s
}

// routeTarget is a service that a route names and that may come later in the files.
type routeTarget struct {
	at   cursor
	name string
}

// checkTargets reports routes to services that are not there.
func (l *loader) checkTargets() {
	for _, t := range l.targets {
		found := false
		for i := range l.set.Services {
			s := &l.set.Services[i]
			found = found || (s.Name == t.name && s.Namespace == t.at.obj.Namespace)
		}
		if !found {
			t.at.warnf("add the Knative Service, or remove the route", "there is no service %s/%s that can run; the route has no effect", t.at.obj.Namespace, clip(t.name))
		}
	}
}

func (o *object) matchRules() (rules []MatchRule) {
	if c, ok := o.take("rules"); ok {
		c.eachObject(func(r *object) {
			rules = append(rules, MatchRule{Hosts: r.texts("hosts"), Paths: r.matchPaths(), Headers: r.matchHeaders()})
		})
	}
	return rules
}

func (o *object) matchPaths() (paths []string) {
	if c, ok := o.take("paths"); ok {
		c.eachObject(func(p *object) {
			v, ok := p.need("value", "write the prefix")
			if !ok {
				return
			}
			prefix, _ := v.text()
			if !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "?#") {
				v.errorf("", "is %q, must start with a slash and hold no query", clip(prefix))
			}
			paths = append(paths, prefix)
		})
	}
	return paths
}

func (o *object) matchHeaders() (headers []MatchHeader) {
	if c, ok := o.take("headers"); ok {
		c.eachObject(func(h *object) {
			m := MatchHeader{}
			if n, ok := h.need("name", "name the header"); ok {
				m.Name, _ = n.text()
			}
			if v, ok := h.take("value"); ok {
				text, _ := v.text()
				m.Value = &text
			}
			headers = append(headers, m)
		})
	}
	return headers
}

func (o *object) staticRoutes() (routes []StaticRoute) {
	if c, ok := o.take("staticRoutes"); ok {
		c.eachObject(func(s *object) {
			out := StaticRoute{Rules: s.matchRules()}
			if m, ok := s.take("responseMode"); ok {
				mode, ok := m.text()
				if ok && mode != "Always" && mode != "WhenUnavailable" {
					m.errorf("", "is %q, must be Always or WhenUnavailable", clip(mode))
				}
				out.Always = mode == "Always"
			}
			if _, ok := s.need("response", "write what to answer"); ok {
				out.Response = *s.response(http.StatusOK)
				routes = append(routes, out)
			}
		})
	}
	return routes
}

// placeholder reads what is answered while the service starts.
func (o *object) placeholder() *Response {
	c, ok := o.take("coldStart")
	if !ok {
		return nil
	}
	cold, ok := c.object()
	if !ok {
		return nil
	}
	defer cold.done()
	cold.unbuilt("is not built: requests wait for the service itself", "fallback")
	p, ok := cold.take("placeholder")
	if !ok {
		return nil
	}
	f, ok := p.object()
	if !ok {
		return nil
	}
	defer f.done()
	return f.response(http.StatusServiceUnavailable)
}

// response reads the field response; what is left out is an empty body with the given status.
func (o *object) response(status int) *Response {
	out := &Response{Status: status}
	f, ok := o.take("response")
	if !ok {
		return out
	}
	r, ok := f.object()
	if !ok {
		return out
	}
	defer r.done()
	out.Status = int(r.integer("statusCode", 200, 599, int64(status), ""))
	if b, ok := r.take("body"); ok {
		out.Body, _ = b.text()
		if len(out.Body) > maxBody {
			b.errorf("put it in a file that a service serves", "is %d bytes, at most %d", len(out.Body), maxBody)
		}
	}
	r.unbuilt("is not read; write the text under body", "bodyFromConfigMap")
	out.Header = r.fields("headers")
	return out
}

// fields reads header fields, ordered by name.
func (o *object) fields(name string) (out []route.Field) {
	c, ok := o.take(name)
	if !ok {
		return nil
	}
	values := c.textMap()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		switch {
		case strings.ContainsAny(k+values[k], "\r\n"):
			c.errorf("", "header %q must not hold a line break", clip(k))
		case slices.Contains(framing, strings.ToLower(k)):
			c.errorf("leave it out", "header %q is not an answer's to set: it says where a message ends, or what becomes of the connection", clip(k))
		default:
			out = append(out, route.Field{Name: k, Value: values[k]})
		}
	}
	if len(out) > maxFields {
		c.errorf("", "has %d headers, at most %d", len(out), maxFields)
	}
	return out
}

// maxFields is how many header fields an answer can have.
const maxFields = 8

// framing are header fields that whoever writes a message sets.
var framing = []string{"connection", "content-length", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade"}
