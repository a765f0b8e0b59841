package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// TestMain makes this test binary serve as the activator.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "activator" {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		os.Exit(Main(os.Args[2:], os.Environ(), signals, os.Stdin, os.Stderr))
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var hello = identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u1", Generation: 1}

const helloHost = "hello.default.example.com"

// control is one control process's share of a test: its listener, its streams and what it knows. Killing it forgets all
// but the address.
type control struct {
	t      *testing.T
	addr   string
	assign *assign.Server
	stats  *statstream.Handler
	http   *http.Server
	owned  sync.WaitGroup
	demand *demand

	decides  context.CancelFunc
	deciding sync.WaitGroup
}

// demand keeps the reports of load.
type demand struct {
	mu  sync.Mutex
	all []metrics.Message // guarded by mu
}

func (d *demand) Report(m metrics.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, m)
}

func (d *demand) reports() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// of counts the reports for one revision.
func (d *demand) of(name string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.all {
		if d.all[i].Name == name {
			n++
		}
	}
	return n
}

// begin starts a control that knows nothing, at addr.
func begin(t *testing.T, addr string) *control {
	t.Helper()
	c := &control{t: t, demand: &demand{}}
	var err error
	token := func(_ context.Context, token string) bool { return token == "secret" }
	if c.assign, err = assign.NewServer(assign.ServerConfig{Authorize: token}); err != nil {
		t.Fatal(err)
	}
	if c.stats, err = statstream.NewHandler(statstream.HandlerConfig{Sink: c.demand, Authorize: token}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/assign", c.assign)
	mux.Handle("/stats", c.stats)
	c.http = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.addr = ln.Addr().String()
	c.owned.Go(func() { _ = c.http.Serve(ln) })
	c.decide()
	return c
}

// decide moves slots between activators until halt.
func (c *control) decide() {
	life, cancel := context.WithCancel(context.Background())
	c.decides = cancel
	c.deciding.Go(func() { _ = c.assign.Run(life) })
}

func (c *control) halt() {
	c.decides()
	c.deciding.Wait()
}

// rest halts decisions when each activator has a slot and none is on its way. Slots go to those who need them, also away from an activator
// whose clients the machine does not let run for a moment; with none it would serve nobody for as long as control is away.
func (c *control) rest(activators int, pods ...*pod) {
	c.t.Helper()
	await(c.t, "each activator has a slot", nil, func() bool {
		c.halt()
		holders := map[string]bool{}
		for _, p := range pods {
			for instance := range c.assign.Leases(hello, p.uid) {
				holders[instance] = true
			}
		}
		if c.assign.Settled(hello) && len(holders) == activators {
			return true
		}
		c.decide()
		return false
	})
}

// kill ends it without a word.
func (c *control) kill() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.http.Close()
	_ = c.assign.Close(gone)
	_ = c.stats.Close(gone)
	c.halt()
	c.owned.Wait()
}

// tell makes the revision known with its pods, and owns everything.
func (c *control) tell(epoch uint64, limit int, pods ...*pod) {
	c.assign.PutRevision(assign.Revision{
		ID: hello, Service: "hello", Configuration: "hello",
		Settings: assign.Settings{ContainerConcurrency: limit, QueueLimit: 1000, QueueDeadline: time.Minute},
	})
	c.assign.SetRoutes(assign.Routes{Name: "default/hello", Config: route.Config{
		Routes: route.Domains{}.Routes("default", "hello", false, []route.Share{{Revision: hello, Percent: 100}}),
	}})
	c.endpoints(1, pods...)
	c.assign.Own(0, epoch)
}

func (c *control) endpoints(version uint64, pods ...*pod) {
	s := endpoint.Snapshot{Revision: hello, Version: version}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, p.endpoint())
	}
	c.assign.Endpoints(endpoint.Update{Snapshot: s})
}

// put makes another revision known with its pods.
func (c *control) put(id identity.Revision, pods ...*pod) {
	c.assign.PutRevision(assign.Revision{ID: id, Settings: assign.Settings{QueueLimit: 1000, QueueDeadline: time.Minute}})
	s := endpoint.Snapshot{Revision: id, Version: 1}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, p.endpoint())
	}
	c.assign.Endpoints(endpoint.Update{Snapshot: s})
}

func (c *control) state(name string) (assign.ActivatorState, bool) {
	for _, a := range c.assign.Activators() {
		if a.Name == name && a.Connected && a.Ready {
			return a, true
		}
	}
	return assign.ActivatorState{}, false
}

// pod is an application without a queue-proxy, which knows the most requests that it had at once.
type pod struct {
	uid           string
	server        *httptest.Server
	present, most atomic.Int64
	served        atomic.Int64
	streams       atomic.Int64 // requests with a body of unknown length
	work          time.Duration
	hold          chan struct{} // when not nil, requests wait until it is closed
}

func newPod(t *testing.T, uid string, work time.Duration) *pod {
	p := &pod{uid: uid, work: work}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := p.present.Add(1)
	defer p.present.Add(-1)
	for most := p.most.Load(); now > most && !p.most.CompareAndSwap(most, now); most = p.most.Load() {
	}
	p.served.Add(1)
	if r.ContentLength < 0 {
		p.streams.Add(1)
	}
	_, _ = io.Copy(io.Discard, r.Body) // a client that left is found by writing
	if p.hold != nil {
		<-p.hold
	}
	timer := time.NewTimer(p.work)
	defer timer.Stop()
	<-timer.C
	fmt.Fprint(w, p.uid)
}

// stream opens a request through an address, and returns what ends it and returns the answer.
func (p *pod) stream(t *testing.T, addr string) (end func() string) {
	t.Helper()
	client := newClient(t)
	body, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	before := p.streams.Load()
	go func() {
		res, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			b = append(b, err.Error()...)
		}
		answered <- string(b)
	}()
	await(t, "the stream is open", nil, func() bool { return p.streams.Load() > before })
	return func() string { w.Close(); return <-answered }
}

func (p *pod) endpoint() endpoint.Endpoint {
	return endpoint.Endpoint{Pod: identity.Pod{UID: p.uid, Addr: netip.MustParseAddrPort(p.server.Listener.Addr().String())}, State: endpoint.Ready}
}

// activatorProcess is a real process.
type activatorProcess struct {
	t    *testing.T
	c    *control
	name string
	cmd  *exec.Cmd
	out  *lockedBuffer
	addr string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// launch starts an activator and waits until control sees it ready.
func launch(t *testing.T, c *control, name string, flags ...string) *activatorProcess {
	t.Helper()
	a := &activatorProcess{t: t, c: c, name: name, out: &lockedBuffer{}}
	a.cmd = exec.Command(os.Args[0], append([]string{
		"activator", "--name=" + name, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--port-host=127.0.0.1", "--with-stdin",
		"--control-urls=ws://" + c.addr + "/assign", "--stats-urls=ws://" + c.addr + "/stats", "--log-format=text",
		"--drain-minimum=100ms", "--drain-quiet=50ms",
	}, flags...)...)
	a.cmd.Env = append(os.Environ(), "ROUSE_TOKEN=secret")
	a.cmd.Stderr = a.out
	stdin, err := a.cmd.StdinPipe() // the process ends with this one
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // it has ended, mostly
		_ = a.cmd.Wait()
		_ = stdin.Close()
	})
	await(t, name+" is ready", a.out.String, func() bool {
		st, ok := c.state(name)
		a.addr = st.Addr
		return ok
	})
	return a
}

// opened says whether control knows a port as open.
func (a *activatorProcess) opened(port uint16) bool {
	st, _ := a.c.state(a.name)
	reason, known := st.Ports[port]
	return known && reason == ""
}

func (a *activatorProcess) signal(s syscall.Signal) {
	if err := a.cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
}

// await polls until a condition holds; the deadline is for a broken program only.
func await(t *testing.T, what string, log func() string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			text := ""
			if log != nil {
				text = log()
			}
			t.Fatalf("it never came true: %s\n%s", what, text)
		}
	}
}

// get sends one request through an address.
func get(client *http.Client, addr string) (body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = helloHost
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %d: %s", res.StatusCode, b))
	}
	return string(b), err
}

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// load sends requests through several activators without a pause.
type load struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	done   []atomic.Int64 // by activator
	failed atomic.Int64
}

func surge(t *testing.T, perActivator int, activators ...*activatorProcess) *load {
	l := &load{stop: make(chan struct{}), done: make([]atomic.Int64, len(activators))}
	client := newClient(t)
	for i, a := range activators {
		for range perActivator {
			l.wg.Go(func() {
				for {
					select {
					case <-l.stop:
						return
					default:
					}
					if _, err := get(client, a.addr); err != nil {
						l.failed.Add(1)
						t.Errorf("through %s: %v", a.name, err)
						return
					}
					l.done[i].Add(1)
				}
			})
		}
	}
	return l
}

// progress waits until each activator has served so many more.
func (l *load) progress(t *testing.T, n int64) {
	t.Helper()
	for i := range l.done {
		until := l.done[i].Load() + n
		await(t, fmt.Sprintf("activator %d serves %d more", i, n), nil, func() bool { return l.done[i].Load() >= until || l.failed.Load() > 0 })
	}
}

func (l *load) end() { close(l.stop); l.wg.Wait() }

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// admin is the address that the process's log names.
func (a *activatorProcess) admin() string {
	_, rest, _ := strings.Cut(a.out.String(), "admin=")
	admin, _, _ := strings.Cut(firstLine(rest), " ")
	return admin
}

// health asks the process itself.
func (a *activatorProcess) health() int {
	res, err := http.Get("http://" + a.admin() + "/healthz") //nolint:noctx // the test ends with it
	if err != nil {
		a.t.Error(err)
		return 0
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	return res.StatusCode
}

// freePort finds one that nobody listens on.
func freePort(t *testing.T) uint16 {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// takenPort is one that somebody listens on.
func takenPort(t *testing.T) uint16 {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

func firstPart(instance string) string { name, _, _ := strings.Cut(instance, "/"); return name }
