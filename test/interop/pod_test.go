package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

const (
	// patience is how long a test waits for what must come.
	patience = 30 * time.Second
	// pause between two looks at a condition.
	pause = 5 * time.Millisecond
)

// revision is what every test serves.
var revision = identity.Revision{Namespace: "default", Name: "hello-00001", UID: "uid-hello-00001", Generation: 1}

// until looks at a condition until it holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}

// pod is a queue-proxy, as a process, with an application behind it in this one.
type pod struct {
	t       *testing.T
	app     *application
	addr    netip.AddrPort // of the queue-proxy
	uid     string
	sidecar bool // ours
	cmd     *exec.Cmd
	log     *safeBuffer
	ended   chan struct{}
	err     error // of the process, after ended
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

// environ is what Knative's controller gives to a queue-proxy.
func environ(name string, limit int, serving, user uint16, ip netip.Addr) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"CONTAINER_CONCURRENCY=" + strconv.Itoa(limit),
		fmt.Sprint("QUEUE_SERVING_PORT=", serving), "QUEUE_SERVING_TLS_PORT=8112", fmt.Sprint("USER_PORT=", user),
		"REVISION_TIMEOUT_SECONDS=60", "REVISION_RESPONSE_START_TIMEOUT_SECONDS=60", "REVISION_IDLE_TIMEOUT_SECONDS=0",
		"SERVING_NAMESPACE=" + revision.Namespace, "SERVING_SERVICE=hello", "SERVING_CONFIGURATION=hello",
		"SERVING_REVISION=" + revision.Name, "SERVING_POD=" + name, "SERVING_POD_IP=" + ip.String(),
		"SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=info",
		`SERVING_READINESS_PROBE={"tcpSocket":{"port":` + fmt.Sprint(user) + `,"host":"127.0.0.1"},"successThreshold":1}`,
		"SERVING_REQUEST_METRICS_BACKEND=prometheus", "SERVING_REQUEST_METRICS_REPORTING_PERIOD_SECONDS=5",
		"METRICS_DOMAIN=knative.dev/internal/serving", "SYSTEM_NAMESPACE=knative-serving",
	}
}

// startKnative runs Knative's queue-proxy, one at a time: its ports for statistics, metrics and hooks are fixed.
func startKnative(t *testing.T, app *application, limit int, extra ...string) *pod {
	t.Helper()
	ip := netip.MustParseAddr("127.0.0.1")
	p := &pod{t: t, app: app, addr: netip.AddrPortFrom(ip, freePort(t)), uid: "knative-pod"}
	p.run(os.Getenv(knativeVar), append(environ(p.uid, limit, p.addr.Port(), app.port, ip), extra...))
	return p
}

// startRouse runs our queue-proxy at an address of its own, on Knative's ports.
func startRouse(t *testing.T, app *application, limit int, ip string, extra ...string) *pod {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(ip), 8012)
	p := &pod{t: t, app: app, addr: addr, uid: "rouse-pod-" + ip, sidecar: true}
	env := append(environ(p.uid, limit, addr.Port(), app.port, addr.Addr()),
		"ROUSE_BIND_ADDRESS="+ip, "ROUSE_REVISION_UID="+revision.UID, "ROUSE_CERT_DIR=/nonexistent",
		"ROUSE_DRAIN_MINIMUM=100ms", "ROUSE_DRAIN_QUIET=100ms")
	p.run(os.Getenv(rouseVar), append(env, extra...))
	return p
}

func (p *pod) run(binary string, env []string) {
	p.t.Helper()
	p.log, p.ended = &safeBuffer{}, make(chan struct{})
	p.cmd = exec.Command(binary)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		if p.t.Failed() {
			p.t.Logf("log of %s:\n%s", p.uid, p.log)
		}
	})
	until(p.t, p.uid+" accepts connections", func() bool {
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended: %v\n%s", p.uid, p.err, p.log)
		default:
		}
		c, err := net.Dial("tcp", p.addr.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// probe asks as the activator's prober does, and returns status and body.
func (p *pod) probe() (status int, body string) {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr.String()+"/healthz", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("K-Network-Probe", "queue")
	req.Header.Set("User-Agent", "Knative-Activator-Probe")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body) // a cut body is not the expected one
	return resp.StatusCode, string(b)
}

func (p *pod) ready() {
	p.t.Helper()
	until(p.t, p.uid+" is ready", func() bool { status, body := p.probe(); return status == 200 && body == "queue" })
}

func (p *pod) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) endpoint(s endpoint.State, protocol endpoint.Protocol) endpoint.Endpoint {
	return endpoint.Endpoint{Pod: identity.Pod{UID: p.uid, Addr: p.addr}, State: s, Sidecar: p.sidecar, Protocol: protocol}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// outcome is what a client saw.
type outcome struct {
	status int
	body   string
	err    error
}

// ask sends one request over a connection that is kept.
func ask(ctx context.Context, client *http.Client, url string, headers ...string) outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return outcome{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return outcome{resp.StatusCode, string(b), err}
}

// newClient keeps enough connections and never follows a proxy.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 512}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}
