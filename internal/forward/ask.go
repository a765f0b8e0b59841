package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// askLimit bounds the head and the body of an answer to the proxy's own question.
const askLimit = 4 << 10

// Question is a small GET of the proxy's own to a pod.
type Question struct {
	Path  string
	Agent string
	// Fields are more header fields: names and values.
	Fields [][2]string
}

// Answer is what a pod says to a [Question].
type Answer struct {
	Status int
	Body   string // at most 4 KiB
}

var errAnswer = errors.New("forward: the answer is not HTTP, or too large")

// Ask sends a question over a connection of the pool, which is kept for the requests that follow. ctx bounds the whole
// of it, and the pool's own limit the time to connect.
func (p *Pool) Ask(ctx context.Context, q Question) (Answer, error) {
	if !p.h1() {
		return p.askH2(ctx, q)
	}
	for {
		u := p.get()
		reused := u != nil
		if u == nil {
			var err error
			if u, err = p.dial(ctx, nil); err != nil {
				return Answer{}, err
			}
		}
		a, keep, err := u.ask(ctx, q)
		if keep {
			u.served++
			p.put(u, time.Now())
			return a, err
		}
		u.Close()
		if err == nil || !reused || ctx.Err() != nil {
			return a, err
		}
	}
}

// Connect opens a connection and keeps it for the requests that follow.
func (p *Pool) Connect(ctx context.Context) error {
	u, err := p.dial(ctx, nil)
	switch {
	case err != nil:
		return err
	case p.h1():
		p.put(u, time.Now())
		return nil
	}
	return u.Close()
}

// RTT returns the smoothed time that connecting took, 0 when nothing is known.
func (p *Pool) RTT() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt.smooth
}

// ExpectRTT gives a pool that knows nothing yet an idea of the time that connecting takes, such as that of other pods.
func (p *Pool) ExpectRTT(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rtt.smooth == 0 && d > 0 {
		p.rtt.observe(d)
	}
}

// ask exchanges the question for its answer. keep says that the connection can be used further.
func (u *upConn) ask(ctx context.Context, q Question) (a Answer, keep bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = u.SetDeadline(past()) })
	defer func() {
		if !stop() && err == nil {
			keep, err = false, context.Cause(ctx)
		}
	}()
	out := appendField([]byte("GET "+q.Path+" HTTP/1.1\r\n"), "Host", u.pool.addr)
	out = appendField(out, "User-Agent", q.Agent)
	for _, f := range q.Fields {
		out = appendField(out, f[0], f[1])
	}
	u.moved = nil
	u.total, u.wrote = u.total+u.wrote, 0
	if err := u.write(append(out, "\r\n"...)); err != nil {
		return a, false, err
	}
	return u.answer()
}

// answer reads a head, and a body of a length that it tells. Interim answers are passed over.
func (u *upConn) answer() (a Answer, keep bool, err error) {
	var h head
	h.reset()
	buf := make([]byte, 2*askLimit)
	for n := 0; ; {
		m, err := u.read(buf[n:])
		if n += m; err != nil {
			return a, false, err
		}
		done, ok := h.scanResponse(buf[:n])
		for done && ok && h.status < 200 && h.status != 101 {
			n = copy(buf, buf[h.size:n])
			h.reset()
			done, ok = h.scanResponse(buf[:n])
		}
		switch whole := int64(h.size) + h.length; {
		case !ok || n == len(buf):
			return a, false, errAnswer
		case !done:
		case h.chunked || h.length < 0 || h.length > askLimit:
			return Answer{Status: h.status}, false, nil // the status is what counts
		case int64(n) >= whole:
			keep = int64(n) == whole && h.major1 && !h.close
			return Answer{Status: h.status, Body: string(buf[h.size:whole])}, keep, nil
		}
	}
}

func (p *Pool) askH2(ctx context.Context, q Question) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.scheme()+"://"+p.addr+q.Path, nil)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("User-Agent", q.Agent)
	for _, f := range q.Fields {
		req.Header.Set(f[0], f[1])
	}
	for tries := 1; ; tries++ {
		conn, _, err := p.takeHTTP(ctx)
		if err != nil {
			return Answer{}, err
		}
		a, err := conn.ask(req)
		p.h2.put(conn)
		if err == nil || ctx.Err() != nil || tries == staleTries {
			return a, err
		}
	}
}

func (c *httpConn) ask(req *http.Request) (Answer, error) {
	res, err := c.RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, askLimit))
	return Answer{Status: res.StatusCode, Body: string(body)}, err
}
