package assign

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// pipes is a listener whose connections are made in memory, so that virtual time can pass while they rest.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	}
}

// bubble is a control with activators in virtual time.
type bubble struct {
	t    *testing.T
	srv  *Server
	away func() // ends the server
	net  atomic.Pointer[pipes]
	id   identity.Revision
	stop []func()
}

func newBubble(t *testing.T, limit int) *bubble {
	b := &bubble{t: t, id: rev("a")}
	b.serve(limit, 1)
	b.stop = append(b.stop, func() { b.away() })
	return b
}

// serve starts a server that owns everything, with the pods that are there already.
func (b *bubble) serve(limit int, epoch uint64, pods ...endpoint.Endpoint) {
	var err error
	if b.srv, err = NewServer(ServerConfig{}); err != nil {
		b.t.Fatal(err)
	}
	srv, h, ln := b.srv, &http.Server{Handler: b.srv, ReadHeaderTimeout: time.Minute}, &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	b.net.Store(ln)
	var owned sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	owned.Go(func() { _ = h.Serve(ln) })
	owned.Go(func() { _ = srv.Run(ctx) })
	b.away = sync.OnceFunc(func() {
		_ = srv.Close(ctx)
		_ = h.Close()
		cancel()
		owned.Wait()
	})
	srv.PutRevision(Revision{ID: b.id, Settings: Settings{ContainerConcurrency: limit}})
	srv.Endpoints(snapshot(b.id, 1, pods...))
	srv.Own(0, epoch)
}

// activator starts one; cut breaks its connection for good.
func (b *bubble) activator(name string) (c *Client, told *book, cut context.CancelFunc) {
	told = newBook()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return b.net.Load().dial(ctx, network, addr)
	}}
	c, err := NewClient(ClientConfig{URLs: []string{"ws://control"}, Name: name, Instance: name, HTTP: &http.Client{Transport: tr}}, told)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	cut = func() { cancel(); <-done; tr.CloseIdleConnections() }
	b.stop = append([]func(){cut}, b.stop...)
	<-c.Synced()
	synctest.Wait()
	return c, told, cut
}

func (b *bubble) close() {
	for _, f := range b.stop {
		f()
	}
}

func (b *bubble) slots(told *book) int {
	synctest.Wait()
	told.mu.Lock()
	defer told.mu.Unlock()
	return told.grants[b.id]["p"]
}

// withoutASlot starts two activators of a revision with one slot and returns the one that does not get it.
func (b *bubble) withoutASlot() (needy *Client, told *book) {
	b.t.Helper()
	one, ones, _ := b.activator("one")
	two, twos, _ := b.activator("two")
	b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
	if b.slots(ones)+b.slots(twos) != 1 {
		b.t.Fatalf("slots %d and %d, want one in all", b.slots(ones), b.slots(twos))
	}
	if b.slots(twos) == 1 {
		return one, ones
	}
	return two, twos
}

// TestASlotMovesWithoutATimer: from a parked request at one activator to the idle slot of another, all that passes are
// frames: up with the need, down with the loss, up with the acknowledgement, down with the slot. No clock ticks.
func TestASlotMovesWithoutATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		needy, told := b.withoutASlot()
		time.Sleep(time.Minute)
		synctest.Wait()
		told.mu.Lock()
		told.parked = 1
		told.mu.Unlock()
		began := time.Now()
		needy.Active(b.id)
		if n := b.slots(told); n != 1 || time.Since(began) != 0 {
			t.Errorf("%d slots after %s, want one at the same moment", n, time.Since(began))
		}
	})
}

// TestLoadThatIsReportedIsLookedAt: requests that are over within a millisecond are reported once a second, and then one is
// parked. It is seen with the next tick, not with the next report.
func TestLoadThatIsReportedIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		needy, told := b.withoutASlot()
		for range 5 {
			needy.Active(b.id)
			time.Sleep(time.Second)
		}
		needy.Active(b.id)
		time.Sleep(500 * time.Millisecond)
		told.mu.Lock()
		told.parked = 1
		told.mu.Unlock()
		time.Sleep(ClientConfig{}.Default().LoadPeriod)
		if n := b.slots(told); n != 1 {
			t.Errorf("%d slots a tick later, want one", n)
		}
	})
}

// TestALostStreamKeepsItsLeasesForTheirTime: to the moment, and for no longer.
func TestALostStreamKeepsItsLeasesForTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 2)
		defer b.close()
		_, _, cut := b.activator("one")
		_, told, _ := b.activator("two")
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		if n := b.slots(told); n != 1 {
			t.Fatalf("%d slots, want half of two", n)
		}
		cut()
		synctest.Wait()
		time.Sleep(3*time.Second - time.Nanosecond)
		if n := b.slots(told); n != 1 {
			t.Errorf("%d slots before the other's time is over, want 1", n)
		}
		time.Sleep(time.Nanosecond)
		if n := b.slots(told); n != 2 {
			t.Errorf("%d slots after the other's time, want 2", n)
		}
		if all := b.srv.Activators(); len(all) != 1 {
			t.Errorf("activators %v, want the other forgotten", all)
		}
	})
}

// TestAReconnectKeepsLeases: nothing moves when a stream breaks and is back in time.
func TestAReconnectKeepsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 2)
		defer b.close()
		_, ones, _ := b.activator("one")
		_, twos, _ := b.activator("two")
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		synctest.Wait()
		b.srv.mu.Lock()
		for st := range b.srv.streams {
			_ = st.conn.CloseNow()
		}
		b.srv.mu.Unlock()
		for range 40 { // over the time of the leases and beyond
			if b.slots(ones) != 1 || b.slots(twos) != 1 {
				t.Fatalf("slots %d and %d, want one each throughout", b.slots(ones), b.slots(twos))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if all := b.srv.Activators(); len(all) != 2 || !all[0].Connected || !all[1].Connected {
			t.Errorf("activators %v, want both back", all)
		}
	})
}

// TestAPodThatIsAskedIsLeasedBeforeItIsReady: an activator that probes pods itself needs slots as soon as one answers.
func TestAPodThatIsAskedIsLeasedBeforeItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		_, told, _ := b.activator("one")
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Starting)))
		if n := b.slots(told); n != 0 {
			t.Errorf("%d slots in a pod that is starting, want none", n)
		}
		settings := Settings{ContainerConcurrency: 1}
		settings.Dispatching.Probe.By = config.ProbeTCP
		b.srv.PutRevision(Revision{ID: b.id, Settings: settings})
		if n := b.slots(told); n != 1 {
			t.Errorf("%d slots in a pod that may be asked, want one", n)
		}
	})
}

// TestWithoutControlNobodyIsWithoutAWay: an activator that has no slot when control goes sends through queue-proxies after a while, and
// through nothing else; with control back it has what it is given again, and control hears of what is still in flight.
func TestWithoutControlNobodyIsWithoutAWay(t *testing.T) {
	for name, sidecar := range map[string]bool{"queue-proxy": true, "bare": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { withoutControl(t, sidecar) })
		})
	}
}

func withoutControl(t *testing.T, sidecar bool) {
	b := newBubble(t, 1)
	defer b.close()
	rest, rich, _ := b.activator("one")
	needy, poor, _ := b.activator("two")
	pods := []endpoint.Endpoint{ep("p", endpoint.Ready), ep("q", endpoint.Draining), ep("r", endpoint.Starting)}
	pods[0].Sidecar = sidecar
	b.srv.Endpoints(snapshot(b.id, 1, pods...))
	if b.slots(poor) == 1 {
		rich, poor, rest, needy = poor, rich, needy, rest
	}
	expect := func(when, want string) {
		t.Helper()
		synctest.Wait()
		for told, want := range map[*book]string{rich: "map[p:1]", poor: want} {
			told.mu.Lock()
			if got := fmt.Sprint(told.grants[b.id]); got != want {
				t.Errorf("%s one has %s, want %s", when, got, want)
			}
			told.mu.Unlock()
		}
	}
	expect("with control", "map[]")
	b.away()
	silence := ClientConfig{}.Default().Silence
	time.Sleep(silence - time.Millisecond)
	expect("without control for a moment", "map[]")
	time.Sleep(time.Millisecond)
	if !sidecar {
		expect("without control, by pods that have no queue-proxy,", "map[]")
		return
	}
	expect("without control", "map[p:1]")
	back := func(epoch uint64) {
		b.serve(1, epoch, pods...)
		time.Sleep(10 * time.Second) // for three of which a new owner moves nothing
		synctest.Wait()
	}
	back(2)
	expect("with control again", "map[]")
	if known := b.srv.Leases(b.id, "p"); len(known) != 1 {
		t.Errorf("control knows of %v in the pod, want the slot", known)
	}
	b.away()
	time.Sleep(silence)
	expect("without control again", "map[p:1]")
	for _, told := range []*book{rich, poor} { // both send something, which takes long
		told.mu.Lock()
		told.use = map[string]int{"p": 1}
		told.mu.Unlock()
	}
	back(3)
	if known := b.srv.Leases(b.id, "p"); len(known) != 2 {
		t.Errorf("control knows of %v in the pod, want what both have in flight", known)
	}
	for told, c := range map[*book]*Client{rich: rest, poor: needy} {
		told.mu.Lock()
		told.use = nil
		told.mu.Unlock()
		c.Freed(b.id, "p")
	}
	if b.slots(rich)+b.slots(poor) != 1 || len(b.srv.Leases(b.id, "p")) != 1 {
		t.Errorf("grants of %d and %d, %v known to control, want one slot", b.slots(rich), b.slots(poor), b.srv.Leases(b.id, "p"))
	}
}

// TestALimitThatAppears: a live revision gets a limit; nobody is without a way at any moment, and in the end each has slots.
func TestALimitThatAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		defer b.close()
		_, ones, _ := b.activator("one")
		_, twos, _ := b.activator("two")
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		time.Sleep(time.Minute)
		b.srv.PutRevision(Revision{ID: b.id, Settings: Settings{ContainerConcurrency: 4}})
		for range 100 {
			for _, told := range []*book{ones, twos} {
				if n := b.slots(told); n == 0 && told.leased(b.id) {
					t.Fatal("an activator that had no limit has no slot")
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		if b.slots(ones) != 2 || b.slots(twos) != 2 {
			t.Errorf("slots %d and %d in the end, want two each", b.slots(ones), b.slots(twos))
		}
	})
}

func (b *book) leased(id identity.Revision) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.grants[id] != nil
}

// TestWhoHasASlotBorrowsNone: without control an activator goes on with the slots that it has, whichever of the pods they are in.
func TestWhoHasASlotBorrowsNone(t *testing.T) {
	for _, with := range []string{"a", "b"} {
		m := newMirror(&Client{to: newBook()})
		r := &mirrored{Revision: Revision{ID: rev("a")}, leased: true, grants: map[string]int{with: 1}}
		r.endpoints.Endpoints = []endpoint.Endpoint{ep("a", endpoint.Ready), ep("b", endpoint.Ready)}
		if m.lend(r) || r.borrowed {
			t.Errorf("with a slot in %s it borrows others", with)
		}
	}
}

// TestWhatIsUnheardOf is what activators have whose reports control does not get: of those that are there.
func TestWhatIsUnheardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 0)
		defer b.close()
		expect := func(when string, want int, there bool, heard ...string) {
			t.Helper()
			synctest.Wait()
			n, connected := b.srv.Unheard(b.id, func(name string) bool { return slices.Contains(heard, name) })
			if n != want || connected != there {
				t.Errorf("%s: %d requests, connected %v; want %d, %v", when, n, connected, want, there)
			}
		}
		expect("without activators", 0, false)
		var cuts []func()
		for i, name := range []string{"one", "two"} {
			c, told, cut := b.activator(name)
			told.mu.Lock()
			told.parked, told.use = 1, map[string]int{"p": i + 1}
			told.mu.Unlock()
			c.Active(b.id)
			cuts = append(cuts, cut)
		}
		expect("of both", 5, true)
		expect("of one", 2, true, "two")
		expect("of none", 0, true, "one", "two")
		cuts[0]()
		expect("of the one that is left", 3, true)
		cuts[1]()
		expect("when all have gone", 0, false)
	})
}
