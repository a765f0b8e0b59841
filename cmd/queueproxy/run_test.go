package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what must come.
const limit = 30 * time.Second

// running is a sidecar in this process, with real sockets.
type running struct {
	t       *testing.T
	signals chan os.Signal
	exit    chan int
	stdout  *safeBuffer
	stderr  *safeBuffer
	client  *http.Client

	mu      sync.Mutex // guards the following
	changed *sync.Cond
	addrs   map[string]string // by the variable that names the port
}

// safeBuffer is a buffer that several goroutines use.
type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// environ is what Knative sets, with every port chosen by the kernel and a drain without delay; extra goes over it.
func environ(app string, extra ...string) []string {
	_, port, _ := net.SplitHostPort(app)
	return append([]string{
		"CONTAINER_CONCURRENCY=10", "QUEUE_SERVING_PORT=0", "QUEUE_SERVING_TLS_PORT=0", "USER_PORT=" + port,
		"REVISION_TIMEOUT_SECONDS=30", "SERVING_NAMESPACE=default", "SERVING_SERVICE=hello", "SERVING_CONFIGURATION=hello",
		"SERVING_REVISION=hello-00001", "SERVING_POD=hello-1", "SERVING_POD_IP=127.0.0.1",
		"SERVING_LOGGING_CONFIG={}", "SERVING_LOGGING_LEVEL=info",
		"ROUSE_BIND_ADDRESS=127.0.0.1", "ROUSE_ADMIN_PORT=0", "ROUSE_STATS_PORT=0", "ROUSE_METRICS_PORT=0",
		"ROUSE_DRAIN_MINIMUM=1ms", "ROUSE_DRAIN_QUIET=1ms", "ROUSE_CERT_DIR=/nonexistent",
	}, extra...)
}

// start runs a sidecar and waits until it says where it serves.
func start(t *testing.T, env []string) *running {
	t.Helper()
	pr, pw := io.Pipe()
	r := &running{
		t: t, signals: make(chan os.Signal, 2), exit: make(chan int, 1), stdout: &safeBuffer{}, stderr: &safeBuffer{},
		addrs: make(map[string]string), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit},
	}
	r.changed = sync.NewCond(&r.mu)
	var reading sync.WaitGroup
	logged := make(chan struct{})
	reading.Go(func() { r.read(pr); close(logged) })
	reading.Go(func() {
		code := run(env, r.signals, r.stdout, pw)
		pw.Close()
		<-logged // the log is whole when the exit is known
		r.exit <- code
	})
	t.Cleanup(reading.Wait)
	r.addr("QUEUE_SERVING_PORT")
	return r
}

// read notes the addresses in the log.
func (r *running) read(from io.Reader) {
	sc := bufio.NewScanner(io.TeeReader(from, r.stderr))
	for sc.Scan() {
		var l struct{ Port, Address string }
		if json.Unmarshal(sc.Bytes(), &l) == nil && l.Address != "" {
			r.mu.Lock()
			r.addrs[l.Port] = l.Address
			r.changed.Broadcast()
			r.mu.Unlock()
		}
	}
}

// addr waits for the address of a port.
func (r *running) addr(port string) string {
	r.t.Helper()
	late := time.AfterFunc(limit, func() { panic("the sidecar does not serve " + port + ": " + r.stderr.String()) })
	defer late.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.addrs[port] == "" {
		r.changed.Wait()
	}
	return r.addrs[port]
}

// get asks a port and returns status and body.
func (r *running) get(port, path string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	return r.ask(r.client, "http://"+r.addr(port)+path, headers...)
}

func (r *running) ask(client *http.Client, url string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("GET %s: %v", url, err)
	}
	return resp, string(b)
}

// until asks again until ok, or fails.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %s", what, limit)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// ended waits for the exit code.
func (r *running) ended(want int) {
	r.t.Helper()
	select {
	case code := <-r.exit:
		if code != want {
			r.t.Errorf("exit code = %d, want %d; it said:\n%s", code, want, r.stderr.String())
		}
	case <-time.After(limit):
		r.t.Fatalf("the sidecar did not end; it said:\n%s", r.stderr.String())
	}
}

func (r *running) stop() {
	r.t.Helper()
	r.signals <- syscall.SIGTERM
	r.ended(0)
}

// application serves h, and waits for its connections to end.
func application(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from "+r.URL.Path) }

// TestBadEnvironment shows all faults at once, each with its key.
func TestBadEnvironment(t *testing.T) {
	var log safeBuffer
	code := run([]string{
		"CONTAINER_CONCURRENCY=-1", "QUEUE_SERVING_PORT=8012", "USER_PORT=eighty", "REVISION_TIMEOUT_SECONDS=-5",
		"SERVING_READINESS_PROBE={}", "OBSERVABILITY_CONFIG={", "SERVING_LOGGING_LEVEL=loud", "ROUSE_BIND_ADDRESS=here",
		"ROUSE_USER_PROTOCOL=spdy", "ROUSE_APP_PID=-1", "ROUSE_ADMIN_PORT=8012", "QUEUE_PROXY_TLS_MIN_VERSION=1.0",
		"SERVING_REVISION=r",
	}, nil, io.Discard, &log)
	if code != 2 {
		t.Errorf("exit code = %d, want 2", code)
	}
	for _, key := range []string{
		"CONTAINER_CONCURRENCY", "USER_PORT", "REVISION_TIMEOUT_SECONDS", "SERVING_READINESS_PROBE", "OBSERVABILITY_CONFIG",
		"SERVING_LOGGING_LEVEL", "ROUSE_BIND_ADDRESS", "ROUSE_USER_PROTOCOL", "ROUSE_APP_PID", "ROUSE_ADMIN_PORT", "MIN_VERSION",
		"SERVING_NAMESPACE", "SERVING_CONFIGURATION", "SERVING_POD", "SERVING_POD_IP",
	} {
		if !strings.Contains(log.String(), key) {
			t.Errorf("the log does not name %s:\n%s", key, log.String())
		}
	}
}

// TestPortThatIsTaken names the variable.
func TestPortThatIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, key := range []string{"QUEUE_SERVING_PORT", "ROUSE_METRICS_PORT"} {
		var log safeBuffer
		if code := run(environ("127.0.0.1:1", key+"="+port), nil, io.Discard, &log); code != 1 || !strings.Contains(log.String(), key+": ") {
			t.Errorf("%s taken: exit code %d and %s; want 1 and its name", key, code, log.String())
		}
	}
}

// TestWholeTimeout: Knative's timeout bounds the time until the response begins, Rouse's the whole request.
func TestWholeTimeout(t *testing.T) {
	for value, streams := range map[string]bool{"": true, "ROUSE_WHOLE_TIMEOUT=false": true, "ROUSE_WHOLE_TIMEOUT=true": false} {
		s, err := load(environ("127.0.0.1:1", value))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sidecar().Proxy.Timeouts; got.Total != 30*time.Second || got.Streams != streams {
			t.Errorf("%q: %+v, want streams to last longer: %v", value, got, streams)
		}
	}
}

// TestVariablesWithoutEffectAreNamed at level debug, with the reason.
func TestVariablesWithoutEffectAreNamed(t *testing.T) {
	r := start(t, environ("127.0.0.1:1", "SERVING_LOGGING_LEVEL=debug", "TRACING_CONFIG_BACKEND=zipkin", "METRICS_DOMAIN="))
	r.stop()
	if log := r.stderr.String(); !strings.Contains(log, "TRACING_CONFIG_BACKEND") || strings.Contains(log, "METRICS_DOMAIN") {
		t.Errorf("the log names not just what is set and has no effect:\n%s", log)
	}
}
