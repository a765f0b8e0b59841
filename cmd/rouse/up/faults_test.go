package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/sampleapp"
)

// outcome is what one client saw of one request.
type outcome struct {
	method string
	fresh  bool // on a connection of its own
	status int
	err    error
	body   string
	pid    string
}

// clients send requests without a pause and without retries of their own until stop is called, and record every
// outcome. Half of them keep their connection, half of them use a fresh one each time; half GET, half POST.
type clients struct {
	h    *house
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu  sync.Mutex
	all []outcome // guarded by mu
}

func (h *house) clients(n int) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{h: h, stop: cancel}
	for i := range n {
		c.wg.Go(func() { c.loop(ctx, i%2 == 0, i%4 < 2) })
	}
	return c
}

func (c *clients) loop(ctx context.Context, fresh, post bool) {
	// A GET may be sent again by Go's transport when a kept connection breaks, which would hide a failure; a request
	// with a body that cannot be read again is not.
	transport := &http.Transport{DisableKeepAlives: fresh, MaxIdleConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for ctx.Err() == nil {
		o := outcome{method: http.MethodGet, fresh: fresh}
		var body io.Reader
		if post {
			o.method, body = http.MethodPost, io.LimitReader(strings.NewReader(strings.Repeat("x", 1000)), 1000)
		}
		req, err := http.NewRequest(o.method, "http://"+c.h.Addr.String()+"/?sleep=5", body)
		if err != nil {
			panic(err)
		}
		req.Host = "victim.default.example.com"
		o.run(client, req)
		c.mu.Lock()
		c.all = append(c.all, o)
		c.mu.Unlock()
	}
}

func (o *outcome) run(client *http.Client, req *http.Request) {
	res, err := client.Do(req)
	if err != nil {
		o.err = err
		return
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	o.status, o.body, o.err, o.pid = res.StatusCode, string(b), err, res.Header.Get(sampleapp.HeaderPID)
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// pids lists the processes that answered last.
func (c *clients) pids() map[int]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[int]bool{}
	for _, o := range c.all[max(0, len(c.all)-50):] {
		var pid int
		if _, err := fmt.Sscan(o.pid, &pid); err == nil {
			found[pid] = true
		}
	}
	return found
}

// end stops the clients and returns what was not a complete 200.
func (c *clients) end() (failed []outcome) {
	c.stop()
	c.wg.Wait()
	for _, o := range c.all {
		if o.err != nil || o.status != http.StatusOK || o.body == "" {
			failed = append(failed, o)
		}
	}
	return failed
}

const faults = 20

// TestGracefulStopsLoseNothing stops pods one after the other at random moments under load.
func TestGracefulStopsLoseNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"none", "inprocess", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			h := start(t, service("victim", "autoscale", 10, 0, ""), func(o *Options) {
				o.Sidecars, o.Set = mode, []string{"min-scale=2"}
			})
			defer h.close()
			c := h.clients(8)
			id, err := h.stack.fleet.current("victim")
			if err != nil {
				t.Fatal(err)
			}
			for range faults {
				h.settle(c, random, 2)
				victim := h.stack.book.Snapshot(id).Endpoints[random.IntN(2)].Pod.UID
				// One more first, so that there is always somebody to take over, as a rolling update does.
				if err := errors.Join(h.scale(3), h.ready("victim", 3), h.scale(2, victim)); err != nil {
					t.Fatal(err)
				}
			}
			total := c.count()
			for _, o := range c.end() {
				t.Errorf("%s, fresh %v: status %d, error %v, body %q; want a complete 200", o.method, o.fresh, o.status, o.err, o.body)
			}
			t.Logf("%d requests over %d stops", total, faults)
		})
	}
}

// TestKilledPodsLoseOnlyWhatTheyHad kills applications at random moments under load: only requests that had been sent
// to them may fail, by 502 or a cut stream, and none hangs.
func TestKilledPodsLoseOnlyWhatTheyHad(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"none", "inprocess", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			h := start(t, service("victim", "autoscale", 10, 0, ""), func(o *Options) {
				o.Sidecars, o.Set = mode, []string{"min-scale=3"}
			})
			defer h.close()
			const n = 8
			c := h.clients(n)
			for range faults {
				h.settle(c, random, 2)
				for pid := range c.pids() {
					if syscall.Kill(pid, syscall.SIGKILL) == nil {
						break
					}
				}
			}
			failed := c.end()
			// At each kill at most all clients have a request in that one pod.
			if len(failed) > faults*n {
				t.Errorf("%d requests failed over %d kills with %d clients", len(failed), faults, n)
			}
			for _, o := range failed {
				var cut net.Error
				if o.status != http.StatusBadGateway && !errors.Is(o.err, io.ErrUnexpectedEOF) && !errors.Is(o.err, io.EOF) || errors.As(o.err, &cut) && cut.Timeout() {
					t.Errorf("%s, fresh %v: status %d, error %v, body %q; want 502 or a cut stream", o.method, o.fresh, o.status, o.err, o.body)
				}
			}
			t.Logf("%d of %d requests failed over %d kills", len(failed), c.count(), faults)
		})
	}
}

// settle lets some requests pass, a random number of them, with at least so many pods ready.
func (h *house) settle(c *clients, random *rand.Rand, pods int) {
	h.t.Helper()
	until := c.count() + 20 + random.IntN(60)
	h.await("the clients go on", func() bool { return c.count() >= until })
	if err := h.ready("victim", pods); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) ready(name string, pods int) error {
	h.t.Helper()
	h.await(fmt.Sprintf("%d pods are ready", pods), func() bool {
		ready, _ := h.pods(name)
		return ready >= pods
	})
	return nil
}

// scale asks for pods past the control loop, as an operator does who deletes a pod.
func (h *house) scale(n int, victims ...string) error {
	id, err := h.stack.fleet.current("victim")
	if err != nil {
		return err
	}
	return h.stack.runner.Apply(context.Background(), id, n, victims)
}
