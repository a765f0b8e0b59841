package front

import (
	"testing"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

func TestControlsProbeWakesNothing(t *testing.T) {
	passed := 0
	h := probed(forward.HandlerFunc(func(forward.Exchange) { passed++ }))
	x := forwardtest.New("hello")
	x.Headers = map[string]string{"k-network-probe": probeValue}
	h.ServeExchange(x)
	if passed != 0 || x.Status != 200 || x.Body != probeValue {
		t.Errorf("answered %d %q, passed on %d times; want 200 %q and none", x.Status, x.Body, passed, probeValue)
	}
	h.ServeExchange(forwardtest.New("hello"))
	if passed != 1 {
		t.Errorf("a request without the header was passed on %d times, want once", passed)
	}
}
