package front

import (
	"strings"
	"sync/atomic"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/route"
)

// Router finds a request's revision in the present routing table. The zero value finds none; it is safe for concurrent use.
type Router struct {
	table atomic.Pointer[route.Table]
}

// Swap puts new routes and answers in force; the sequences that keep percentages go on. With faults nothing changes.
func (r *Router) Swap(cfg route.Config) error {
	table, err := route.Build(cfg, r.table.Load())
	if err != nil {
		return err
	}
	r.table.Store(table)
	return nil
}

// Route implements activator.Router.
func (r *Router) Route(x forward.Exchange) (activator.Route, bool) {
	table := r.table.Load()
	if table == nil {
		return activator.Route{}, false
	}
	t, ok := table.Next(x.Host(), x.Path(), x.Header)
	to := activator.Route{Revision: t.Revision.Key()}
	if t.Answer != nil {
		to.Answer = answer(t.Answer)
	}
	return to, ok
}

// answer hands a fixed response of the table to the activator. They are rare, and short-lived ones cost nothing.
func answer(a *route.Answer) *activator.Answer {
	out := &activator.Answer{When: when(a.Mode), Status: a.Status, Body: string(a.Body)}
	for _, f := range a.Header {
		if strings.EqualFold(f.Name, "Content-Type") {
			out.ContentType = f.Value
			continue
		}
		out.Fields = append(out.Fields, activator.Field{Name: f.Name, Value: f.Value})
	}
	return out
}

func when(m route.Mode) activator.When {
	switch m {
	case route.WhileCold:
		return activator.WhileCold
	case route.Placeholder:
		return activator.Placeholder
	case route.Always:
	}
	return activator.Always
}
