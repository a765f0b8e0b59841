package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// maxKeptBody is how large a body buffer an exchange keeps for the next request.
const maxKeptBody = 1 << 20

// Exchange is one request and its answer, used again and again by one goroutine. The zero value is ready.
type Exchange struct {
	// Head holds the header lines of the next request, each ended by CRLF, without host and length.
	Head []byte
	// Body of the next request.
	Body []byte

	buf      []byte
	answer   fasthttp.Response
	answered bool

	// kept is the connection of the last exchange and owner its Target: whoever sends one request after the other
	// needs no lock to find it again.
	kept  *conn
	owner *Target
}

// Release gives the connection that the exchange keeps back, for others and for CloseIdle. Whoever has nothing to send
// for a while calls it.
func (x *Exchange) Release() {
	if x.kept != nil {
		x.owner.put(x.kept)
		x.kept, x.owner = nil, nil
	}
}

// Status of the answer.
func (x *Exchange) Status() int { return x.answer.StatusCode() }

// Answer is the answer's body, valid until the next Do.
func (x *Exchange) Answer() []byte { return x.answer.Body() }

// Header calls f for each header of the answer.
func (x *Exchange) Header(f func(name, value []byte)) {
	for k, v := range x.answer.Header.All() {
		f(k, v)
	}
}

// Peek returns a header of the answer.
func (x *Exchange) Peek(name string) string { return string(x.answer.Header.Peek(name)) }

// Do sends Head and Body and reads the answer. An error means that no complete answer came; the sink may still have
// seen the request, except after ErrToken and a failed dial.
func (t *Target) Do(x *Exchange) error {
	now := time.Now()
	deadline := now.Add(t.cfg.Timeout)
	token, err := t.token(deadline)
	if err != nil {
		return err
	}
	if t.h2 != nil {
		return t.do2(x, token, deadline)
	}
	x.assemble(t, token)
	if cap(x.buf) > maxKeptBody {
		defer func() { x.buf = nil }()
	}
	for {
		c, err := x.conn(t, deadline)
		if err != nil {
			return err
		}
		used := c.used
		err = x.roundTrip(c, t.cfg.Timeout, now)
		if err == nil && !x.answer.ConnectionClose() {
			c.used, c.last = true, now
			x.kept, x.owner = c, t
		} else {
			t.drop(c)
		}
		if err == nil || !used || x.answered || isTimeout(err) {
			return err
		}
	}
}

// conn takes the connection that the exchange keeps, or another one of the target.
func (x *Exchange) conn(t *Target, deadline time.Time) (*conn, error) {
	if x.owner == t {
		c := x.kept
		x.kept, x.owner = nil, nil
		return c, nil
	}
	x.Release()
	return t.get(deadline)
}

func (t *Target) token(deadline time.Time) (string, error) {
	if t.cfg.Token == nil {
		return "", nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	token, err := t.cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	return token, nil
}

func (x *Exchange) assemble(t *Target, token string) {
	b := append(append(x.buf[:0], t.head...), x.Head...)
	if token != "" {
		b = append(append(append(b, "Authorization: Bearer "...), token...), "\r\n"...)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(x.Body)), 10)
	b = append(append(b, "\r\n\r\n"...), x.Body...)
	x.buf = b
}

// slack is by how much a deadline may be late at most: setting one costs two changes of the runtime's timers, and a
// connection with a thousand requests a second needs ten of them instead of a thousand.
const slack = 100 * time.Millisecond

// roundTrip writes the request in one piece and reads the answer.
func (x *Exchange) roundTrip(c *conn, timeout time.Duration, now time.Time) error {
	x.answered = false
	if late := min(slack, timeout/8); c.deadline.Sub(now) < timeout {
		c.deadline = now.Add(timeout + late)
		if err := c.SetDeadline(c.deadline); err != nil {
			return err
		}
	}
	if err := c.write(x.buf); err != nil {
		return err
	}
	if _, err := c.br.Peek(1); err != nil {
		return err
	}
	x.answered = true
	x.answer.Reset()
	return x.answer.ReadLimitBody(c.br, MaxAnswer)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// http2 makes the transport for HTTP/2: net/http, because streams share one connection there.
func (t *Target) http2() *http.Transport {
	p := &http.Protocols{}
	p.SetHTTP2(t.tls != nil)
	p.SetUnencryptedHTTP2(t.tls == nil)
	var cfg *tls.Config
	if t.tls != nil {
		cfg = t.tls.Clone()
	}
	return &http.Transport{Protocols: p, DialContext: t.cfg.Dial, TLSClientConfig: cfg, IdleConnTimeout: time.Minute, DisableCompression: true}
}

func (t *Target) do2(x *Exchange, token string, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(x.Body))
	if err != nil {
		return err
	}
	for _, h := range t.cfg.Header {
		req.Header.Set(h[0], h[1])
	}
	for _, line := range bytes.Split(x.Head, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok {
			req.Header.Set(string(name), string(value))
		}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := t.h2.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err != nil {
		return err
	}
	if len(body) > MaxAnswer {
		return fmt.Errorf("answer is longer than %d bytes", MaxAnswer)
	}
	x.answer.Reset()
	x.answer.SetStatusCode(resp.StatusCode)
	for k, vs := range resp.Header {
		for _, v := range vs {
			x.answer.Header.Add(k, v)
		}
	}
	x.answer.SetBody(body)
	return nil
}
