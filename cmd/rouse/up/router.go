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

// swap puts new routes in force; the sequences that keep percentages go on.
func (r *router) swap(routes []route.Route) error {
	table, err := route.Build(route.Config{Routes: routes}, r.table.Load())
	if err != nil {
		return err
	}
	r.table.Store(table)
	return nil
}

// Route implements activator.Router.
func (r *router) Route(x forward.Exchange) (identity.Key, bool) {
	table := r.table.Load()
	if table == nil {
		return identity.Key{}, false
	}
	t, ok := table.Next(x.Host(), x.Path(), x.Header)
	return t.Revision.Key(), ok
}
