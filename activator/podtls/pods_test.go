package podtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/activator/podtls"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
	"github.com/rousehq/rouse/queueproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hello = identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u1"}

type everywhere struct{}

func (everywhere) Route(forward.Exchange) (activator.Route, bool) {
	return activator.Route{Revision: hello.Key()}, true
}

type nobody struct{}

func (nobody) Report(metrics.Message) {}

// outcomes are how requests ended: told after the answer.
type outcomes chan activator.Outcome

func (o outcomes) Dispatched(identity.Revision, bool, time.Duration) {}
func (o outcomes) Done(_ identity.Revision, out activator.Outcome)   { o <- out }

func (o outcomes) next(t *testing.T) activator.Outcome {
	t.Helper()
	select {
	case out := <-o:
		return out
	case <-time.After(20 * time.Second):
		t.Fatal("the request has not ended")
		return activator.Outcome{}
	}
}

// rig is an activator and a queue-proxy that serves TLS, with an application behind it, all on real sockets.
type rig struct {
	*activator.Activator
	front    string         // where the activator listens
	pod      netip.AddrPort // where the queue-proxy serves TLS
	plain    netip.AddrPort // and clear text
	served   atomic.Int64   // requests that the application saw
	outcomes outcomes
	seen     chan activator.ProbeResult // the first answers to probes
}

// Probed implements activator.PodObserver.
func (r *rig) Probed(_ identity.Revision, _ string, p activator.ProbeResult, _ time.Duration) {
	select {
	case r.seen <- p:
	default:
	}
}

// Ejected implements activator.PodObserver.
func (r *rig) Ejected(identity.Revision, string, activator.Ejection) {}

// serve runs f until the test ends, and waits for it.
func serve(t *testing.T, f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func newRig(t *testing.T, client *podtls.Client, server *tls.Config, probe activator.Probe) *rig {
	t.Helper()
	r := &rig{outcomes: make(outcomes, 10), seen: make(chan activator.ProbeResult, 1)}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.served.Add(1)
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(app.Close)
	r.queueProxy(t, netip.MustParseAddrPort(app.Listener.Addr().String()), server)
	var err error
	r.Activator, err = activator.New(activator.Config{}, activator.Deps{Router: everywhere{}, Stats: nobody{}, Observer: r.outcomes, Pods: r,
		NewPoolOf: func(rev identity.Revision, e endpoint.Endpoint) *forward.Pool {
			return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr, Protocol: e.Protocol, NotAdmitted: true, TLS: client.For(rev.Namespace)})
		}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, r.Run)
	r.Put(hello, activator.Settings{ContainerConcurrency: 2, QueueLimit: 10, QueueDeadline: 20 * time.Second, Probe: probe})
	front, err := forward.NewServer(forward.Config{}, r.Handler(false))
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	r.front = "http://" + ln.Addr().String()
	serve(t, func(ctx context.Context) error { return front.Serve(ctx, ln) })
	t.Cleanup(func() { _ = front.Shutdown(t.Context()) })
	t.Cleanup(func() { r.Remove(hello) })
	return r
}

func (r *rig) queueProxy(t *testing.T, app netip.AddrPort, server *tls.Config) {
	t.Helper()
	s, err := queueproxy.NewSidecar(queueproxy.SidecarConfig{
		Proxy: queueproxy.Config{Revision: hello, Pod: "a", ContainerConcurrency: 2, App: app, Timeouts: forward.Timeouts{Total: time.Minute}},
		TLS:   server, Drain: queueproxy.NoDrainDelay(time.Second),
	}, queueproxy.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	plain, ln := listen(t), listen(t)
	r.pod, r.plain = netip.MustParseAddrPort(ln.Addr().String()), netip.MustParseAddrPort(plain.Addr().String())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	serve(t, func(ctx context.Context) error { return s.Run(ctx, plain) })
	serve(t, func(ctx context.Context) error { return s.RunTLS(ctx, ln) })
}

// publish says that the pod is there, in this state, and speaks TLS.
func (r *rig) publish(state endpoint.State) { r.publishAt(r.pod, endpoint.TLS, state) }

func (r *rig) publishAt(addr netip.AddrPort, protocol endpoint.Protocol, state endpoint.State) {
	r.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: hello, Version: 1, Endpoints: []endpoint.Endpoint{
		{Pod: identity.Pod{UID: "a", Addr: addr}, Protocol: protocol, State: state, Sidecar: true},
	}}})
}

func (r *rig) ask(t *testing.T) (status int, body string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := c.Get(r.front + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestActivatorToQueueProxy sends requests through both over TLS: to pods that are who they should be, by either
// protocol and with a client certificate, and to some that are not.
func TestActivatorToQueueProxy(t *testing.T) {
	ours, theirs := podtls.NewAuthority(t, "ours"), podtls.NewAuthority(t, "theirs")
	mine := ours.Issue("activator")
	named := func(names ...string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ours.Issue(names...)}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS13}
	}
	h1 := named("kn-user-default")
	h1.NextProtos = []string{"http/1.1"}
	mutual := named("kn-user-default")
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	mutual.ClientCAs.AppendCertsFromPEM(ours.PEM())
	other := named("kn-user-default")
	other.Certificates = []tls.Certificate{theirs.Issue("kn-user-default")}
	for _, c := range []struct {
		name   string
		server *tls.Config
		own    *tls.Certificate
		status int
		cause  fault.Cause
		served int64
	}{
		{"h2", named("data-plane.knative.dev", "kn-user-default"), nil, 200, fault.None, 1},
		{"http/1.1", h1, nil, 200, fault.None, 1},
		{"client certificate", mutual, &mine, 200, fault.None, 1},
		{"pod of another namespace", named("kn-user-shop"), nil, 502, fault.UpstreamUnverified, 0},
		{"pod of another authority", other, nil, 502, fault.UpstreamUnverified, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := podtls.Load(podtls.Files(t, t.TempDir(), c.own, ours), nil)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, client, c.server, activator.Probe{})
			r.publish(endpoint.Ready)
			status, body := r.ask(t)
			got := r.outcomes.next(t)
			if status != c.status || got.Cause != c.cause || r.served.Load() != c.served {
				t.Errorf("%d %q, cause %v (%v), %d reached the application; want %d, %v, %d", status, body, got.Cause, got.Err, r.served.Load(), c.status, c.cause, c.served)
			}
			if c.cause != fault.None && got.Tries != 12 {
				t.Errorf("%d tries, want 12: it may be one pod of several, and is not tried for ever", got.Tries)
			}
		})
	}
}

// TestProbeOverTLS: a pod that its source does not call ready is found by the activator's own probe, over TLS; one
// whose certificate is wrong never is.
func TestProbeOverTLS(t *testing.T) {
	ours := podtls.NewAuthority(t, "ours")
	for name, found := range map[string]bool{"kn-user-default": true, "kn-user-shop": false} {
		t.Run(name, func(t *testing.T) {
			client, err := podtls.Load(podtls.Files(t, t.TempDir(), nil, ours), nil)
			if err != nil {
				t.Fatal(err)
			}
			server := &tls.Config{Certificates: []tls.Certificate{ours.Issue(name)}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS13}
			r := newRig(t, client, server, activator.Probe{By: activator.QueueProbe})
			r.publish(endpoint.Starting)
			select {
			case got := <-r.seen:
				if want := map[bool]activator.ProbeResult{true: activator.ProbeOK, false: activator.ProbeUnverified}[found]; got != want {
					t.Errorf("probe = %v, want %v", got, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the pod was not probed")
			}
			if !found {
				return
			}
			if status, _ := r.ask(t); status != 200 {
				t.Errorf("status = %d, want 200", status)
			}
		})
	}
}

// TestProbeInClearText asks a queue-proxy on its plain port, by either protocol and in every way that it answers.
func TestProbeInClearText(t *testing.T) {
	ours := podtls.NewAuthority(t, "ours")
	server := &tls.Config{Certificates: []tls.Certificate{ours.Issue("kn-user-default")}, MinVersion: tls.VersionTLS13}
	for _, c := range []struct {
		name     string
		protocol endpoint.Protocol
		probe    activator.Probe
	}{
		{"queue", endpoint.H1, activator.Probe{By: activator.QueueProbe}},
		{"queue over h2c", endpoint.H2C, activator.Probe{By: activator.QueueProbe}},
		{"http", endpoint.H1, activator.Probe{By: activator.HTTPProbe, Path: "/ready"}},
		{"tcp", endpoint.H1, activator.Probe{By: activator.TCPProbe}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := podtls.Load(podtls.Files(t, t.TempDir(), nil, ours), nil)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, client, server, c.probe)
			r.publishAt(r.plain, c.protocol, endpoint.Starting)
			if status, body := r.ask(t); status != 200 || body != "hello" {
				t.Errorf("a request to a pod that only the probe knows to be ready = %d %q, want 200", status, body)
			}
			if got := <-r.seen; got != activator.ProbeOK || r.served.Load() != 1 {
				t.Errorf("the probe's result is %v, the application saw %d requests; want ok and 1", got, r.served.Load())
			}
		})
	}
}

// TestProbeOfAnothersPod: where a pod that starts has gone and its address is another revision's, the queue-proxy there says whose it is.
func TestProbeOfAnothersPod(t *testing.T) {
	ours := podtls.NewAuthority(t, "ours")
	client, err := podtls.Load(podtls.Files(t, t.TempDir(), nil, ours), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{ours.Issue("kn-user-default")}, MinVersion: tls.VersionTLS13}
	for _, protocol := range []endpoint.Protocol{endpoint.H1, endpoint.H2C} {
		r := newRig(t, client, server, activator.Probe{})
		gone := identity.Revision{Namespace: hello.Namespace, Name: "gone", UID: "gone"}
		r.Put(gone, activator.Settings{QueueLimit: 10, QueueDeadline: time.Second, Probe: activator.Probe{By: activator.QueueProbe}})
		t.Cleanup(func() { r.Remove(gone) })
		r.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: gone, Version: 1, Endpoints: []endpoint.Endpoint{
			{Pod: identity.Pod{UID: "b", Addr: r.plain}, Protocol: protocol, State: endpoint.Starting, Sidecar: true},
		}}})
		if got := <-r.seen; got != activator.ProbeNo {
			t.Errorf("%v: the probe's result is %v, want %v", protocol, got, activator.ProbeNo)
		}
	}
}
