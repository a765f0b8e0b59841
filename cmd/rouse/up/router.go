package up

import (
	"sync/atomic"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// router finds a service's revision in the present routing table.
type router struct {
	table atomic.Pointer[route.Table]
}

// newRouter gives every service all the traffic of its hosts.
func newRouter(domain string, plans []planned) (*router, error) {
	domains := route.Domains{Public: domain}
	var cfg route.Config
	for i := range plans {
		s := plans[i].service
		all := []route.Share{{Revision: plans[i].config.ID, Percent: 100}}
		cfg.Routes = append(cfg.Routes, domains.Routes(s.Namespace, s.Name, false, all)...)
	}
	table, err := route.Build(cfg, nil)
	if err != nil {
		return nil, err
	}
	r := &router{}
	r.table.Store(table)
	return r, nil
}

// Route implements activator.Router.
func (r *router) Route(x forward.Exchange) (identity.Key, bool) {
	t, ok := r.table.Load().Next(x.Host(), x.Path(), x.Header)
	return t.Revision.Key(), ok
}
