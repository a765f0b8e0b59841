package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// IDHeader names a request: the client sends each once, and an application that sees one twice has been given a retry that it
// cannot know of.
const IDHeader = "Rouse-Test-Id"

// Response is what came back for one request.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Get sends one GET on a connection of its own, waits as long as it takes up to a minute, and fails the test unless something answers.
func (c *Cluster) Get(rawURL string) Response {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.Context, time.Minute)
	defer cancel()
	r, err := Send(ctx, http.MethodGet, rawURL, nil, nil)
	if err != nil {
		c.t.Fatalf("GET %s: %v", rawURL, err)
	}
	return r
}

// Reach sends one GET and says why it was not answered with 200 within a second, for use as a condition.
func (c *Cluster) Reach(rawURL string) error {
	ctx, cancel := context.WithTimeout(c.Context, time.Second)
	defer cancel()
	r, err := Send(ctx, http.MethodGet, rawURL, nil, nil)
	if err == nil && r.Status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.Status, r.Body)
	}
	return err
}

// Send sends one request on a connection of its own and never a second one.
func Send(ctx context.Context, method, rawURL string, header http.Header, body []byte) (Response, error) {
	conn := &Conn{}
	defer conn.Close()
	return conn.Send(ctx, method, rawURL, header, body)
}

// Conn is a client with one keep-alive connection and no retries: net/http's own client repeats what fails on a connection that was used before.
// It connects anew only when the other side closed the connection before a request was sent. Not safe for concurrent use; the zero value is
// ready, Close ends it.
type Conn struct {
	conn net.Conn
	r    *bufio.Reader
	host string
}

// Close closes the connection.
func (c *Conn) Close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn, c.r = nil, nil
	}
}

// Send sends one request and reads the whole answer; ctx bounds both.
func (c *Conn) Send(ctx context.Context, method, rawURL string, header http.Header, body []byte) (Response, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return Response{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, rawURL, bytes.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if err := c.connect(ctx, u.Host); err != nil {
		return Response{}, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	resp, err := c.exchange(req)
	if err != nil {
		c.Close()
		return Response{}, err
	}
	return resp, nil
}

// connect keeps a connection that is still open.
func (c *Conn) connect(ctx context.Context, host string) error {
	if c.conn != nil && c.host == host && c.alive() {
		return nil
	}
	c.Close()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	c.conn, c.r, c.host = conn, bufio.NewReader(conn), host
	return nil
}

// alive looks for the other side's end without waiting for it.
func (c *Conn) alive() bool {
	if c.conn.SetReadDeadline(time.Now()) != nil {
		return false
	}
	_, err := c.r.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded) && c.conn.SetReadDeadline(time.Time{}) == nil
}

func (c *Conn) exchange(req *http.Request) (Response, error) {
	if err := req.Write(c.conn); err != nil {
		return Response{}, fmt.Errorf("write: %w", err)
	}
	resp, err := http.ReadResponse(c.r, req)
	if err != nil {
		return Response{}, fmt.Errorf("read: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Response{}, fmt.Errorf("read body: %w", err)
	}
	if resp.Close {
		c.Close()
	}
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, nil
}

// Load is an open-loop client: requests start at their intended times whether or not earlier ones have been answered.
type Load struct {
	URL       string
	Method    string        // default GET
	Body      []byte        // sent with every request
	Header    http.Header   // sent with every request, besides its ID
	Rate      int           // requests a second
	KeepAlive bool          // connections are used again; else each request has a fresh one
	Timeout   time.Duration // of one request; default 30 s
	Prefix    string        // of the requests' IDs; default the URL and the start
}

// Report is what a load met.
type Report struct {
	Sent     int
	Latency  []time.Duration // from the intended start, of what was answered with 200
	Failures []Failure
}

// Failure is a request that was not answered with 200.
type Failure struct {
	At     time.Time // when it was sent
	ID     string
	Status int // 0: no answer
	Err    error
}

func (f Failure) String() string {
	return fmt.Sprintf("%s at %s: status %d: %v", f.ID, f.At.Format("15:04:05.000"), f.Status, f.Err)
}

// maxConns bounds a load's connections; what would need more fails, and says so.
const maxConns = 4096

var errTooMany = fmt.Errorf("more than %d requests at once: the other side does not answer", maxConns)

// Run sends until ctx is done and returns when every request has ended.
func (l Load) Run(ctx context.Context) *Report {
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	if l.Method == "" {
		l.Method = http.MethodGet
	}
	if l.Prefix == "" {
		l.Prefix = l.URL + "@" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	run := &loadRun{Load: l, idle: make(chan *Conn, maxConns), report: &Report{}}
	defer run.closeIdle()
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	slots := make(chan struct{}, maxConns)
	tick := time.NewTicker(time.Second / time.Duration(l.Rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			inFlight.Wait()
			run.report.Sent = n
			return run.report
		case at := <-tick.C:
			select {
			case slots <- struct{}{}:
				inFlight.Go(func() {
					run.one(at, n)
					<-slots
				})
			default:
				run.fail(Failure{At: at, ID: run.id(n), Err: errTooMany})
			}
		}
	}
}

type loadRun struct {
	Load
	idle chan *Conn

	mu     sync.Mutex // guards report
	report *Report
}

func (r *loadRun) id(n int) string { return r.Prefix + "#" + strconv.Itoa(n) }

func (r *loadRun) one(at time.Time, n int) {
	// Not the load's context: what was sent before the end is to be answered.
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	conn := r.take()
	header := r.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set(IDHeader, r.id(n))
	resp, err := conn.Send(ctx, r.Method, r.URL, header, r.Body)
	r.give(conn)
	if err != nil || resp.Status != http.StatusOK {
		r.fail(Failure{At: at, ID: r.id(n), Status: resp.Status, Err: err})
		return
	}
	took := time.Since(at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Latency = append(r.report.Latency, took)
}

func (r *loadRun) fail(f Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Failures = append(r.report.Failures, f)
}

func (r *loadRun) take() *Conn {
	select {
	case c := <-r.idle:
		return c
	default:
		return &Conn{}
	}
}

func (r *loadRun) give(c *Conn) {
	if r.KeepAlive {
		select {
		case r.idle <- c:
			return
		default:
		}
	}
	c.Close()
}

func (r *loadRun) closeIdle() {
	for {
		select {
		case c := <-r.idle:
			c.Close()
		default:
			return
		}
	}
}
