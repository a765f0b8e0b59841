package front

import (
	"net/http"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// Control asks through a Service's address whether an activator is behind it, as Knative does, before it takes the last
// pod away.
const (
	probeHeader = "K-Network-Probe"
	probeValue  = "activator"
)

// probed answers control's question on a revision's own listener, where it must not wake anything.
func probed(handlerOf func(identity.Revision) forward.Handler) func(identity.Revision) forward.Handler {
	return func(id identity.Revision) forward.Handler {
		next := handlerOf(id)
		return forward.HandlerFunc(func(x forward.Exchange) {
			if string(x.Header(probeHeader)) == probeValue {
				x.Reply(http.StatusOK, "text/plain", probeValue)
				return
			}
			next.ServeExchange(x)
		})
	}
}
