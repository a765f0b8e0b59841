package front

import (
	"testing"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// still is a request whose accessors allocate nothing.
type still struct {
	forward.Exchange
	host, path []byte
}

func (s *still) Host() []byte         { return s.host }
func (s *still) Path() []byte         { return s.path }
func (s *still) Header(string) []byte { return nil }

func TestRoutingAllocatesNothing(t *testing.T) {
	id := identity.Revision{Namespace: "default", Name: "hello-00001"}
	r := &Router{}
	if err := r.Swap(route.Config{Routes: route.Domains{}.Routes("default", "hello", false, []route.Share{{Revision: id, Percent: 100}})}); err != nil {
		t.Fatal(err)
	}
	var x forward.Exchange = &still{host: []byte("hello.default.example.com:8080"), path: []byte("/")}
	allocs := testing.AllocsPerRun(100, func() {
		if to, ok := r.Route(x); !ok || to.Revision != id.Key() {
			t.Fatalf("Route = %v, %v", to, ok)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per request, want 0", allocs)
	}
}
