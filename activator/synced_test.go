package activator

import (
	"testing"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

// TestUnroutedBeforeAndAfterSync: an activator that has just started must not say that a service does not exist.
func TestUnroutedBeforeAndAfterSync(t *testing.T) {
	synced := false
	a, err := New(Config{}, Deps{
		Router: byHost{}, Stats: &sink{}, Synced: func() bool { return synced },
		NewPool: func(endpoint.Endpoint) *forward.Pool { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		synced bool
		cause  fault.Cause
		retry  bool
	}{{false, fault.NotSynced, true}, {true, fault.NoRoute, false}} {
		synced = want.synced
		x := forwardtest.New("elsewhere")
		a.Handler(false).ServeExchange(x)
		if x.Cause != want.cause || (x.RetryAfter > 0) != want.retry {
			t.Errorf("synced %t: failed with %v, Retry-After %v; want %v, and Retry-After: %t", synced, x.Cause, x.RetryAfter, want.cause, want.retry)
		}
	}
}
