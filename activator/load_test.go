package activator

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// during is a sink that does something else while it is told of a revision without load.
type during struct {
	sink
	idle func()
}

func (d *during) Report(m metrics.Message) {
	d.sink.Report(m)
	if m.Stat.AverageConcurrency == 0 && m.Stat.RequestCount == 0 && d.idle != nil {
		idle := d.idle
		d.idle = nil
		idle()
	}
}

// TestRequestWhileARevisionComesToRest has a request that begins and ends between a revision's last report and its leaving the
// set of those that have something to report.
func TestRequestWhileARevisionComesToRest(t *testing.T) {
	stats := &during{}
	a, err := New(Config{QueueTotal: 1000}, Deps{Router: byHost{}, Stats: stats, NewPool: func(e endpoint.Endpoint) *forward.Pool {
		return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Put(hello, settings())
	var book endpoint.Book
	book.Subscribe(hello, a.Update)
	book.Publish(hello, []endpoint.Endpoint{{
		Pod: identity.Pod{UID: "a", Addr: netip.MustParseAddrPort("127.0.0.1:1")}, State: endpoint.Ready,
	}})
	request := func() { a.Handler(false).ServeExchange(forwardtest.New("hello")) }
	request()
	stats.idle = request
	now := time.Now()
	for i := 0; len(a.active.list) > 0; i++ {
		if i > 10 {
			t.Fatal("the revision does not come to rest")
		}
		now = now.Add(time.Hour) // a request is no load to speak of
		for _, r := range a.active.take() {
			a.reportLoad(r, now)
		}
	}
	request()
	told := 0.0
	for _, m := range stats.copied() {
		told += m.Stat.RequestCount
	}
	if told != 3 {
		t.Errorf("%v requests were reported of 3: %+v", told, stats.copied())
	}
}
