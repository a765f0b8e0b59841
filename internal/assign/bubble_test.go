package assign

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
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
	net  *pipes
	id   identity.Revision
	stop []func()
}

func newBubble(t *testing.T, limit int) *bubble {
	b := &bubble{t: t, net: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}, id: rev("a")}
	var err error
	if b.srv, err = NewServer(ServerConfig{}); err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: b.srv, ReadHeaderTimeout: time.Minute}
	var owned sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	owned.Go(func() { _ = h.Serve(b.net) })
	owned.Go(func() { _ = b.srv.Run(ctx) })
	b.stop = append(b.stop, func() {
		_ = b.srv.Close(ctx)
		_ = h.Close()
		cancel()
		owned.Wait()
	})
	b.srv.PutRevision(Revision{ID: b.id, Settings: Settings{ContainerConcurrency: limit}})
	b.srv.Own(0, 1)
	return b
}

// activator starts one; cut breaks its connection for good.
func (b *bubble) activator(name string) (c *Client, told *book, cut context.CancelFunc) {
	told = newBook()
	tr := &http.Transport{DialContext: b.net.dial}
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

// TestASlotMovesWithoutATimer: from a parked request at one activator to the idle slot of another, all that passes are
// frames: up with the need, down with the loss, up with the acknowledgement, down with the slot. No clock ticks.
func TestASlotMovesWithoutATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		one, onesBook, _ := b.activator("one")
		two, twosBook, _ := b.activator("two")
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		if b.slots(onesBook)+b.slots(twosBook) != 1 {
			t.Fatalf("slots %d and %d, want one in all", b.slots(onesBook), b.slots(twosBook))
		}
		needy, told := two, twosBook
		if b.slots(twosBook) == 1 {
			needy, told = one, onesBook
		}
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
