package front

import (
	"net/http"

	"github.com/rousehq/rouse/internal/forward"
)

// Control asks through a Service's address whether an activator is behind it, as Knative does, before it takes the last
// pod away.
const (
	probeHeader = "K-Network-Probe"
	probeValue  = "activator"
)

// probed answers control's question on a revision's own listener, where it must not wake anything.
func probed(next forward.Handler) forward.Handler {
	return forward.HandlerFunc(func(x forward.Exchange) {
		if string(x.Header(probeHeader)) == probeValue {
			x.Reply(http.StatusOK, "text/plain", probeValue)
			return
		}
		next.ServeExchange(x)
	})
}
