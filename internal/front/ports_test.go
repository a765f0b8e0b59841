package front

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// here answers with where it leads.
type here struct {
	mu sync.Mutex
	to identity.Revision // guarded by mu
}

func (h *here) Lead(id identity.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to = id
}

func (h *here) ServeExchange(x forward.Exchange) {
	h.mu.Lock()
	name := h.to.Name
	h.mu.Unlock()
	x.Reply(http.StatusOK, "text/plain", name)
}

// journal writes down what became of ports.
type journal struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (j *journal) note(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, text)
}

func (j *journal) PortOpened(uint16)                 { j.note("opened") }
func (j *journal) PortRefused(_ uint16, text string) { j.note("refused: " + text) }
func (j *journal) PortClosed(uint16)                 { j.note("closed") }

func (j *journal) last() (n int, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n = len(j.all); n > 0 {
		text = j.all[n-1]
	}
	return n, text
}

// running lets ports run until the returned function is called.
func running(t *testing.T, p *ports) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var owned sync.WaitGroup
	owned.Go(func() { p.run(ctx) })
	return func() {
		for _, s := range p.servers() {
			_ = s.Shutdown(ended()) // connections are cut, on purpose
		}
		cancel()
		owned.Wait()
	}
}

// TestPortsComeBack: a port that is on its way out goes on when it is wanted again, for whomever, and is neither refused nor
// opened anew; only while the whole activator drains do its connections end all the same.
func TestPortsComeBack(t *testing.T) {
	told := &journal{}
	p := newPorts("127.0.0.1", func(id identity.Revision) lead { return &here{to: id} }, told, slog.New(slog.DiscardHandler), time.Hour)
	defer running(t, p)()
	n, late := freePort(t), freePort(t)
	client := newClient(t)
	ask := func(n uint16) (name string, last bool) {
		res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", n)) //nolint:noctx // the test ends with it
		if err != nil {
			return err.Error(), false
		}
		defer res.Body.Close()
		b := make([]byte, 20)
		got, _ := res.Body.Read(b) // short, and all of it
		return string(b[:got]), res.Close
	}
	answers := func(n uint16, want string, last bool) {
		t.Helper()
		await(t, fmt.Sprintf("%s answers, and ends the connection: %t", want, last), nil, func() bool {
			name, close := ask(n)
			return name == want && close == last
		})
	}
	blue, green := identity.Revision{Name: "blue"}, identity.Revision{Name: "green"}
	p.set(map[uint16]identity.Revision{n: blue})
	answers(n, "blue", false)
	p.set(map[uint16]identity.Revision{n: green})
	if name, last := ask(n); name != "green" || last {
		t.Errorf("%s answers, and ends the connection: %t; want green at once, and no end", name, last)
	}
	p.set(nil)
	answers(n, "green", true)
	p.set(map[uint16]identity.Revision{n: blue})
	answers(n, "blue", false)
	if all, text := told.last(); all != 1 || text != "opened" {
		t.Errorf("%d things were told, %q the last; want that it was opened, once", all, text)
	}
	p.drain()
	answers(n, "blue", true)
	p.set(nil)
	p.set(map[uint16]identity.Revision{n: green, late: blue})
	answers(late, "blue", true)
	answers(n, "green", true)
}

// TestPortIsTriedAgain: a port that something else listens on is refused once, and opened when that is gone, without being asked for again. Of one that
// nobody wants any more no refusal is left.
func TestPortIsTriedAgain(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	told := &journal{}
	p := newPorts("127.0.0.1", func(id identity.Revision) lead { return &here{to: id} }, told, slog.New(slog.DiscardHandler), time.Hour)
	p.retry = time.Millisecond
	defer running(t, p)()
	n := other.Addr().(*net.TCPAddr).AddrPort().Port()
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() { p.set(map[uint16]identity.Revision{n: {Name: "blue"}}) }, "refused: "},
		{func() { p.set(nil) }, "closed"},
		{func() { p.set(map[uint16]identity.Revision{n: {Name: "green"}}) }, "refused: "},
		{func() { other.Close() }, "opened"},
	} {
		step.do()
		await(t, step.want+" is told", nil, func() bool { all, text := told.last(); return all > i && strings.HasPrefix(text, step.want) })
		if all, text := told.last(); all != i+1 {
			t.Errorf("%d things were told, the last one %q; want %d", all, text, i+1)
		}
	}
}

// TestAFailedListenerIsOpenedAgain: what a listener's failure refuses is opened again, for whomever has the port by then,
// and the connections of before go on.
func TestAFailedListenerIsOpenedAgain(t *testing.T) {
	told := &journal{}
	p := newPorts("127.0.0.1", func(id identity.Revision) lead { return &here{to: id} }, told, slog.New(slog.DiscardHandler), time.Hour)
	p.retry = time.Millisecond
	defer running(t, p)()
	n := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", n)
	says := func(count int, want string) {
		t.Helper()
		await(t, want+" is told", nil, func() bool { all, text := told.last(); return all == count && strings.HasPrefix(text, want) })
	}
	p.set(map[uint16]identity.Revision{n: {Name: "blue"}})
	says(1, "opened")
	client, later := newClient(t), newClient(t)
	if got, err := get(client, addr); got != "blue" {
		t.Fatalf("%q, %v answers, want blue", got, err)
	}
	for i, name := range []string{"green", "red"} {
		other := takeOver(t, p, n)
		says(3+3*i, "refused: ") // that it failed, and that something else is there
		if got, err := get(client, addr); i == 0 && got != "blue" {
			t.Errorf("the connection of before got %q, %v; want blue", got, err)
		}
		p.set(map[uint16]identity.Revision{n: {Name: name}})
		if p.count() != 0 {
			t.Errorf("%d ports count as open, want none", p.count())
		}
		other.Close()
		says(4+3*i, "opened")
		if got, err := get(later, addr); got != name {
			t.Errorf("%q, %v answers, want %s", got, err, name)
		}
	}
}

// takeOver makes a port's listener fail, and listens in its place.
func takeOver(t *testing.T, p *ports, n uint16) net.Listener {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock() // nobody opens it meanwhile
	p.open[n].ln.Close()
	var other net.Listener
	await(t, "the port is free", nil, func() (free bool) {
		var err error
		other, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n))
		return err == nil
	})
	t.Cleanup(func() { other.Close() })
	return other
}
