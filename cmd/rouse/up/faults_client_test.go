package up

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// hang is when a request without its whole answer counts as hanging.
const hang = time.Minute

// outcome is what one client saw of one request.
type outcome struct {
	id     string
	method string
	fresh  bool // on a connection of its own
	status int
	err    error
	body   string
	pid    string
}

// whole reports a complete answer to this very request.
func (o *outcome) whole() bool {
	return o.err == nil && o.status == http.StatusOK && o.body == o.id
}

func (o *outcome) String() string {
	return fmt.Sprintf("%s %s, fresh %v: status %d, error %v, body %q", o.method, o.id, o.fresh, o.status, o.err, o.body)
}

// wire is one client on bare connections: net/http's would send a GET again when a kept connection breaks, and hide the
// failure.
type wire struct {
	addr, host string
	fresh      bool
	conn       net.Conn
	in         *bufio.Reader
}

// do sends one request, once, and reads its answer.
func (w *wire) do(method, id string) outcome {
	o := outcome{id: id, method: method, fresh: w.fresh}
	o.err = w.exchange(method, &o)
	if w.fresh || o.err != nil {
		w.hangUp()
	}
	return o
}

func (w *wire) exchange(method string, o *outcome) error {
	if w.conn == nil {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			return err
		}
		w.conn, w.in = conn, bufio.NewReader(conn)
	}
	if err := w.conn.SetDeadline(time.Now().Add(hang)); err != nil {
		return err
	}
	if _, err := io.WriteString(w.conn, w.request(method, o.id)); err != nil {
		return err
	}
	res, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	b, err := io.ReadAll(res.Body)
	o.status, o.body, o.pid = res.StatusCode, string(b), res.Header.Get("X-Pid")
	if res.Close {
		w.hangUp()
	}
	return errors.Join(err, res.Body.Close())
}

func (w *wire) request(method, id string) string {
	head := fmt.Sprintf("%s /?id=%s HTTP/1.1\r\nHost: %s\r\n", method, id, w.host)
	if w.fresh {
		head += "Connection: close\r\n"
	}
	if method == http.MethodPost {
		return head + "Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000)
	}
	return head + "\r\n"
}

func (w *wire) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close() // it may be broken already
		w.conn = nil
	}
}

// clients send requests without a pause and without retries of their own until stop is called, and record every
// outcome. Half of them keep their connection, half of them use a fresh one each time; half GET, half POST.
type clients struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu  sync.Mutex
	all []outcome // guarded by mu
}

func (h *house) clients(n int, service string) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{stop: cancel}
	addrs := []string{h.Addr.String()}
	if h.stack.activators != nil {
		addrs = h.choices()
	}
	for i := range n {
		method := http.MethodGet
		if i%4 >= 2 {
			method = http.MethodPost
		}
		w := &wire{addr: addrs[i/4%len(addrs)], host: service + ".default.example.com", fresh: i%2 == 0}
		c.wg.Go(func() { c.loop(ctx, w, method, i) })
	}
	return c
}

func (c *clients) loop(ctx context.Context, w *wire, method string, number int) {
	defer w.hangUp()
	for n := 0; ctx.Err() == nil; n++ {
		o := w.do(method, fmt.Sprintf("%d-%d", number, n))
		c.mu.Lock()
		c.all = append(c.all, o)
		c.mu.Unlock()
	}
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// outcomes returns what is known so far.
func (c *clients) outcomes() []outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[:len(c.all):len(c.all)]
}

// end stops the clients and returns all outcomes.
func (c *clients) end() []outcome {
	c.stop()
	c.wg.Wait()
	return c.all
}

// tally is every outcome, counted by who asked and what came.
func tally(t *testing.T, all []outcome) {
	t.Helper()
	counts := map[string]int{}
	for i := range all {
		o := &all[i]
		kind := "kept"
		if o.fresh {
			kind = "fresh"
		}
		result := fmt.Sprint(o.status)
		if o.err != nil {
			result += " broken"
		}
		counts[o.method+" "+kind+" "+result]++
	}
	for _, must := range []string{"GET kept", "GET fresh", "POST kept", "POST fresh"} {
		if counts[must+" 200"] == 0 {
			t.Errorf("no whole answer for %s: the suite says nothing about it", must)
		}
	}
	t.Logf("%d requests: %v", len(all), counts)
}
