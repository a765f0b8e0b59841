package manifest

import (
	"fmt"

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
	Header []route.Field // ordered by name
	Body   string
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
