package up

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
)

// impatient is a client that waits for its answer until it is told to give up.
type impatient struct {
	conn   net.Conn
	status int // 0: it gave up
	retry  string
}

// wave is a number of such clients.
type wave struct {
	all []*impatient
	wg  sync.WaitGroup

	mu       sync.Mutex
	outcomes map[int]int // by status; guarded by mu
}

// overload sends a request on a connection of its own for each of n clients, and lets them wait.
func (h *house) overload(n int) *wave {
	h.t.Helper()
	c := &wave{outcomes: map[int]int{}}
	for range n {
		conn, err := net.Dial("tcp", h.Addr.String())
		if err != nil {
			h.t.Fatal(err)
		}
		one := &impatient{conn: conn}
		c.all = append(c.all, one)
		if _, err := fmt.Fprint(conn, "GET /?sleep=600000 HTTP/1.1\r\nHost: small.default.example.com\r\n\r\n"); err != nil {
			h.t.Fatal(err)
		}
		c.wg.Go(func() { c.wait(one) })
	}
	return c
}

func (c *wave) wait(one *impatient) {
	res, err := http.ReadResponse(bufio.NewReader(one.conn), nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		one.status, one.retry = res.StatusCode, res.Header.Get("Retry-After")
		_ = res.Body.Close() // the connection goes next
	}
	c.outcomes[one.status]++
}

func (c *wave) count(status int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outcomes[status]
}

// giveUp makes every client leave, answered or not, and returns when all have their outcome.
func (c *wave) giveUp() {
	for _, one := range c.all {
		_ = one.conn.Close() // it is only read from
	}
	c.wg.Wait()
}

// causes sums the activator's count of requests by how they ended.
func (h *house) causes() map[string]int {
	h.t.Helper()
	families, err := h.stack.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	counts := map[string]int{}
	for _, f := range families {
		if f.GetName() != "rouse_activator_outcomes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && m.GetCounter().GetValue() > 0 {
					counts[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return counts
}

// TestOverloadIsBounded sends waves of clients at a service that takes one request at a time: one is served, as many as
// the bound says are parked, the rest is refused with the time to come again; then all give up. Every request has its
// outcome, and nothing is left of any wave: no request, no connection, no goroutine.
func TestOverloadIsBounded(t *testing.T) { // not parallel: it counts goroutines
	const waves, clients, bound = 15, 100, 20
	h := start(t, service("small", "autoscale", 1, 1, ""), func(o *Options) {
		o.Sidecars, o.Set = "process", []string{"queue-limit=20", "min-scale=1"}
	})
	defer h.close()
	if status, _, _, err := h.get("small", ""); status != http.StatusOK || err != nil {
		t.Fatalf("before the load: %d, %v", status, err)
	}
	h.client.CloseIdleConnections()
	idle := func() bool { return h.stack.public.Stats().Open == 0 && h.InFlight("small") == 0 }
	h.await("nothing is open", idle)
	base := runtime.NumGoroutine()
	id, err := h.stack.fleet.current("small")
	if err != nil {
		t.Fatal(err)
	}
	for number := range waves {
		c := h.overload(clients)
		h.await("the rest is refused", func() bool {
			parked, inFlight, _ := h.stack.activator.Counts(id)
			if parked > bound || inFlight > 1 {
				t.Fatalf("wave %d: %d parked and %d in flight, want at most %d and 1", number, parked, inFlight, bound)
			}
			return c.count(http.StatusServiceUnavailable) == clients-bound-1
		})
		if parked, inFlight, _ := h.stack.activator.Counts(id); parked != bound || inFlight != 1 {
			t.Errorf("wave %d: %d parked and %d in flight, want %d and 1", number, parked, inFlight, bound)
		}
		c.giveUp()
		for _, one := range c.all {
			if one.status == http.StatusServiceUnavailable && one.retry == "" {
				t.Error("a refusal does not say when to come again")
			}
		}
		h.await("the wave is gone", idle)
	}
	h.await("every request has its outcome", func() bool {
		sum := 0
		for _, n := range h.causes() {
			sum += n
		}
		return sum == waves*clients+1
	})
	want := map[string]int{"ok": 1, "queue_full": waves * (clients - bound - 1), "client_gone": waves * (bound + 1)}
	if got := h.causes(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	h.await("the goroutines of all waves are gone", func() bool { return runtime.NumGoroutine() <= base+5 })
	if status, _, _, err := h.get("small", ""); status != http.StatusOK || err != nil {
		t.Errorf("after the load: %d, %v; want 200", status, err)
	}
}
