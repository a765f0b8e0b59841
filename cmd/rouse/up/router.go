package up

import (
	"bytes"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// router finds a service's revision by the request's host.
type router struct {
	byHost map[string]identity.Key // lower case, without port
}

func newRouter(o *Options, plans []planned) *router {
	r := &router{byHost: make(map[string]identity.Key)}
	for i := range plans {
		for _, h := range hosts(plans[i].service, o.Domain) {
			r.byHost[h] = plans[i].config.ID.Key()
		}
	}
	return r
}

// Route implements activator.Router.
func (r *router) Route(x forward.Exchange) (identity.Key, bool) {
	host := x.Host()
	if i := bytes.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	if key, ok := r.byHost[string(host)]; ok {
		return key, true
	}
	key, ok := r.byHost[string(bytes.ToLower(host))]
	return key, ok
}
