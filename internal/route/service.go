package route

import (
	"slices"

	"github.com/rousehq/rouse/internal/identity"
)

// Domains are the names under which services are reached.
type Domains struct {
	// Public is the domain of hosts seen from outside. Empty means "example.com", Knative's default.
	Public string
	// Cluster is the cluster's own domain. Empty means "cluster.local".
	Cluster string
	// TagHeader lets the header Knative-Serving-Tag choose a tag on the service's own host, which Knative calls
	// tag-header-based-routing.
	TagHeader bool
}

// Hosts returns the hosts of a name: <name>.<namespace>.<public domain> first, unless it is local to the cluster.
func (d Domains) Hosts(namespace, name string, local bool) []string {
	base := name + "." + namespace
	hosts := []string{base, base + ".svc", base + ".svc." + orDefault(d.Cluster, "cluster.local")}
	if local {
		return hosts
	}
	return append([]string{base + "." + orDefault(d.Public, "example.com")}, hosts...)
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Share is one row of a service's traffic.
type Share struct {
	Revision identity.Revision
	Tag      string
	Percent  int
}

// Routes returns the routes of a Knative Service: one for its hosts with the percentages of its traffic, and one for
// the hosts <tag>-<name> of each tag, which goes to that row alone even when its percentage is 0.
func (d Domains) Routes(namespace, name string, local bool, traffic []Share) []Route {
	full := namespace + "/" + name
	var main []Backend
	var tagged []Route
	hosts := d.Hosts(namespace, name, local)
	for _, s := range traffic {
		if s.Percent > 0 {
			main = append(main, Backend{s.Revision, s.Tag, s.Percent})
		}
		if s.Tag == "" || slices.ContainsFunc(tagged, func(r Route) bool { return r.Backends[0].Tag == s.Tag }) {
			continue
		}
		only := []Backend{{s.Revision, s.Tag, 1}}
		tagged = append(tagged, Route{Name: full, Hosts: d.Hosts(namespace, s.Tag+"-"+name, local), Backends: only})
		if d.TagHeader {
			byHeader := []HeaderMatch{{Name: "Knative-Serving-Tag", Value: s.Tag}}
			tagged = append(tagged, Route{Name: full, Hosts: hosts, Headers: byHeader, Backends: only})
		}
	}
	if len(main) == 0 {
		return tagged
	}
	return append([]Route{{Name: full, Hosts: hosts, Backends: main}}, tagged...)
}
