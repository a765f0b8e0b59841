package manifest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/rousehq/rouse/internal/route"
)

// InterceptorRoute is a http.keda.sh/v1beta1 InterceptorRoute: hosts, paths and headers of the HTTP add-on that lead
// to a service, and what is answered while it sleeps.
type InterceptorRoute struct {
	Object
	// Service is the Knative Service of the same namespace that gets the requests.
	Service string
	// Rules are alternatives; without any, the service keeps the hosts that it has anyway.
	Rules []MatchRule
	// Static are answers that wake nothing, in the order in which they are tried.
	Static []StaticRoute
	// Placeholder is answered while the service starts; nil lets requests wait.
	Placeholder *Response
}

// MatchRule matches requests with any of the hosts, any of the path prefixes and all of the headers.
type MatchRule struct {
	Hosts   []string
	Paths   []string
	Headers []MatchHeader
}

// MatchHeader asks for a header; without a value any will do.
type MatchHeader struct {
	Name  string
	Value *string
}

// StaticRoute is a fixed response for some requests of a route.
type StaticRoute struct {
	Rules    []MatchRule // any of them; none is every request
	Response Response
	// Always answers even while the service is awake.
	Always bool
}

// Response is a fixed response.
type Response struct {
	Status int
	Header []route.Field // in the order of the file
	Body   string
}

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
	spec.staticRoutes(&r)
	if c, ok := spec.take("coldStart"); ok {
		if cold, ok := c.object(); ok {
			cold.unbuilt("is not built: requests wait for the service itself", "fallback")
			if p, ok := cold.take("placeholder"); ok {
				r.Placeholder = p.response(http.StatusServiceUnavailable)
			}
			cold.done()
		}
	}
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
	c, ok := o.take("rules")
	if !ok {
		return nil
	}
	c.each(func(_ int, item cursor) {
		if r, ok := item.object(); ok {
			rules = append(rules, r.matchRule())
		}
	})
	return rules
}

func (o *object) matchRule() MatchRule {
	defer o.done()
	r := MatchRule{Hosts: o.texts("hosts")}
	if c, ok := o.take("paths"); ok {
		c.each(func(_ int, item cursor) {
			p, ok := item.object()
			if !ok {
				return
			}
			if v, ok := p.need("value", "write the prefix"); ok {
				prefix, _ := v.text()
				if !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "?#") {
					v.errorf("", "is %q, must start with a slash and hold no query", clip(prefix))
				}
				r.Paths = append(r.Paths, prefix)
			}
			p.done()
		})
	}
	if c, ok := o.take("headers"); ok {
		c.each(func(_ int, item cursor) {
			h, ok := item.object()
			if !ok {
				return
			}
			m := MatchHeader{}
			if n, ok := h.need("name", "name the header"); ok {
				m.Name, _ = n.text()
			}
			if v, ok := h.take("value"); ok {
				text, _ := v.text()
				m.Value = &text
			}
			h.done()
			r.Headers = append(r.Headers, m)
		})
	}
	return r
}

func (o *object) staticRoutes(r *InterceptorRoute) {
	c, ok := o.take("staticRoutes")
	if !ok {
		return
	}
	c.each(func(_ int, item cursor) {
		s, ok := item.object()
		if !ok {
			return
		}
		defer s.done()
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
			r.Static = append(r.Static, out)
		}
	})
}

// response reads the field response of the mapping at the cursor.
func (c cursor) response(status int) *Response {
	out := &Response{Status: status}
	o, ok := c.object()
	if !ok {
		return out
	}
	defer o.done()
	return o.response(status)
}

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
	if h, ok := r.take("headers"); ok {
		fields := h.textMap()
		if m, ok := h.object(); ok {
			for _, k := range m.keys {
				if strings.ContainsAny(k.Value+fields[k.Value], "\r\n") {
					h.errorf("", "header %q must not hold a line break", clip(k.Value))
					continue
				}
				out.Header = append(out.Header, route.Field{Name: k.Value, Value: fields[k.Value]})
			}
		}
	}
	return out
}

// Routes returns the route's table entries, given the one of its service: it lends its traffic, and its hosts to rules
// without any. The answers stand before what the rules match, and without rules before the service itself.
func (r *InterceptorRoute) Routes(service route.Route) ([]route.Route, []route.Answer) {
	name := r.String()
	var routes []route.Route
	for _, rule := range r.Rules {
		for _, path := range orOne(rule.Paths) {
			routes = append(routes, route.Route{
				Name: name, Hosts: orElse(rule.Hosts, service.Hosts), Path: path, Headers: rule.matches(), Backends: service.Backends,
			})
		}
	}
	if len(routes) == 0 {
		name = service.Name
	}
	return routes, r.answers(name)
}

// answers returns the static routes and the placeholder, for requests that the named route takes.
func (r *InterceptorRoute) answers(name string) []route.Answer {
	var answers []route.Answer
	for i, s := range r.Static {
		rules := s.Rules
		if len(rules) == 0 {
			rules = []MatchRule{{}}
		}
		a := route.Answer{Name: fmt.Sprintf("%s static %d", r, i), Route: name, Mode: route.WhileCold}
		if s.Always {
			a.Mode = route.Always
		}
		s.Response.fill(&a)
		for _, rule := range rules {
			for _, path := range orOne(rule.Paths) {
				a.Hosts, a.Path, a.Headers = rule.Hosts, path, rule.matches()
				answers = append(answers, a)
			}
		}
	}
	if r.Placeholder != nil {
		a := route.Answer{Name: r.String() + " placeholder", Route: name, Mode: route.Placeholder}
		r.Placeholder.fill(&a)
		answers = append(answers, a)
	}
	return answers
}

func (r *Response) fill(a *route.Answer) {
	a.Status, a.Header, a.Body = r.Status, r.Header, []byte(r.Body)
}

func (r *MatchRule) matches() []route.HeaderMatch {
	var out []route.HeaderMatch
	for _, h := range r.Headers {
		m := route.HeaderMatch{Name: h.Name, Kind: route.Present}
		if h.Value != nil {
			m.Kind, m.Value = route.Exact, *h.Value
		}
		out = append(out, m)
	}
	return out
}

// orOne returns a list with one empty entry instead of none.
func orOne(s []string) []string { return orElse(s, []string{""}) }

func orElse(s, other []string) []string {
	if len(s) == 0 {
		return other
	}
	return s
}
