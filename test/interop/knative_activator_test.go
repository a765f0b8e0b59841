package interop

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netcfg "knative.dev/networking/pkg/config"
	netprobe "knative.dev/networking/pkg/http/probe"
	fakekube "knative.dev/pkg/client/injection/kube/client/fake"
	fakeendpoints "knative.dev/pkg/client/injection/kube/informers/core/v1/endpoints/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/core/v1/service/fake" // the throttler asks for it
	"knative.dev/pkg/logging"
	pkgnet "knative.dev/pkg/network"
	"knative.dev/pkg/ptr"
	rtesting "knative.dev/pkg/reconciler/testing"
	tracingconfig "knative.dev/pkg/tracing/config"
	activatorconfig "knative.dev/serving/pkg/activator/config"
	activatorhandler "knative.dev/serving/pkg/activator/handler"
	activatornet "knative.dev/serving/pkg/activator/net"
	"knative.dev/serving/pkg/apis/serving"
	v1 "knative.dev/serving/pkg/apis/serving/v1"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	fakerevisions "knative.dev/serving/pkg/client/injection/informers/serving/v1/revision/fake"
	"knative.dev/serving/pkg/networking"
)

// knativesActivator is the chain of Knative's activator with its throttler and its prober, over the fake informers of
// Knative's own tests.
type knativesActivator struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // Knative keeps its informers there
	url   string
	stats chan []asmetrics.StatMessage
}

func startKnativesActivator(t *testing.T, limit int64, protocol string) *knativesActivator {
	t.Helper()
	ctx, cancel, informers := rtesting.SetupFakeContextWithCancel(t)
	wait, err := rtesting.RunAndSyncInformers(ctx, informers...)
	if err != nil {
		t.Fatal(err)
	}
	a := &knativesActivator{t: t, ctx: ctx, stats: make(chan []asmetrics.StatMessage, 100)}
	a.addRevision(limit, protocol)
	transport := pkgnet.NewProxyAutoTransport(1000, 100)
	throttler := activatornet.NewThrottler(ctx, "127.0.0.9")
	throttled := make(chan struct{})
	go func() {
		defer close(throttled)
		throttler.Run(ctx, transport, false, netcfg.MeshCompatibilityModeDisabled)
	}()
	reporter := activatorhandler.NewConcurrencyReporter(ctx, "knative-activator", a.stats)
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		reporter.Run(ctx.Done())
	}()
	a.serve(a.chain(throttler, transport, reporter))
	t.Cleanup(func() {
		cancel()
		<-throttled
		<-reported
		wait()
	})
	return a
}

// chain is what cmd/activator of 0.42 builds, without metrics, traces and request log.
func (a *knativesActivator) chain(throttler activatorhandler.Throttler, transport http.RoundTripper, reporter *activatorhandler.ConcurrencyReporter) http.Handler {
	logger := logging.FromContext(a.ctx)
	store := activatorconfig.NewStore(logger)
	store.OnConfigChanged(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: tracingconfig.ConfigName}, Data: map[string]string{"backend": "none"}})
	h := activatorhandler.New(a.ctx, throttler, transport, false, logger, false)
	h = reporter.Handler(h)
	h = activatorhandler.NewTracingHandler(h)
	h = activatorhandler.NewContextHandler(a.ctx, h, store)
	h = &activatorhandler.ProbeHandler{NextHandler: h}
	return netprobe.NewHandler(h)
}

func (a *knativesActivator) serve(h http.Handler) {
	a.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	a.url = "http://" + ln.Addr().String()
	srv := pkgnet.NewServer("", h)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	a.t.Cleanup(func() {
		srv.Close()
		<-done // that it was closed
	})
}

func (a *knativesActivator) addRevision(limit int64, protocol string) {
	a.t.Helper()
	rev := &v1.Revision{
		ObjectMeta: metav1.ObjectMeta{Namespace: revision.Namespace, Name: revision.Name},
		Spec:       v1.RevisionSpec{ContainerConcurrency: ptr.Int64(limit), TimeoutSeconds: ptr.Int64(60)},
	}
	rev.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: protocol, ContainerPort: 8080}}}}
	if err := fakerevisions.Get(a.ctx).Informer().GetIndexer().Add(rev); err != nil {
		a.t.Fatal(err)
	}
}

// pods tells the activator where pods are, as the endpoints of the private service do: those that kubelet calls ready,
// and those that it does not yet.
func (a *knativesActivator) pods(port string, ready, unready []*pod) {
	a.t.Helper()
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: port, Port: 8012}}}
	for _, p := range ready {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: p.addr.Addr().String()})
	}
	for _, p := range unready {
		subset.NotReadyAddresses = append(subset.NotReadyAddresses, corev1.EndpointAddress{IP: p.addr.Addr().String()})
	}
	eps := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: revision.Namespace, Name: revision.Name + "-private", Labels: map[string]string{
			serving.RevisionUID: revision.UID, serving.RevisionLabelKey: revision.Name,
			networking.ServiceTypeKey: string(networking.ServiceTypePrivate),
		}},
		Subsets: []corev1.EndpointSubset{subset},
	}
	client := fakekube.Get(a.ctx).CoreV1().Endpoints(revision.Namespace)
	_, err := client.Update(a.ctx, eps, metav1.UpdateOptions{})
	if err != nil {
		_, err = client.Create(a.ctx, eps, metav1.CreateOptions{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
	until(a.t, "the informer has the endpoints", func() bool {
		got, err := fakeendpoints.Get(a.ctx).Lister().Endpoints(eps.Namespace).Get(eps.Name)
		return err == nil && len(got.Subsets[0].Addresses) == len(ready)
	})
}

// headers name the revision, as Knative's ingress does.
func headers(more ...string) []string {
	return append([]string{"Knative-Serving-Namespace", revision.Namespace, "Knative-Serving-Revision", revision.Name}, more...)
}

// TestKnativesActivatorInFrontOfOurs: three of our pods with limit 1, of which two are not ready by kubelet yet. Knative's
// prober finds all three by our queue-proxy's answers, its throttler never gives a pod two requests, and what reaches the
// application is what Knative's queue-proxy would let through.
func TestKnativesActivatorInFrontOfOurs(t *testing.T) {
	a := startKnativesActivator(t, 1, "http1")
	var pods []*pod
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		pods = append(pods, startRouse(t, startApplication(t), 1, ip))
	}
	a.pods("http", pods[:1], pods[1:])
	client := newClient(t)
	wantAll(t, many(t, 200, client, a.url, headers()...), 200)
	sum := 0
	for _, p := range pods {
		total, most := p.app.seen()
		sum += total
		if most != 1 || total == 0 {
			t.Errorf("%s saw %d requests and %d at once, want some and 1", p.uid, total, most)
		}
	}
	if sum != 200 {
		t.Errorf("the applications saw %d requests, want 200", sum)
	}
	header, host := pods[0].app.last(t)
	if header.Get("K-Proxy-Request") != "activator" || host != a.url[len("http://"):] {
		t.Errorf("the application saw K-Proxy-Request %q and host %q, want activator and the client's host", header.Get("K-Proxy-Request"), host)
	}
	// Host and protocol are an ingress's to say: here is none.
	for _, gone := range []string{"Knative-Serving-Namespace", "Knative-Serving-Revision", "K-Original-Host", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := header.Get(gone); v != "" {
			t.Errorf("%s = %q reached the application", gone, v)
		}
	}
}

// TestKnativesActivatorWaitsForOurProbe: a request comes while our queue-proxy runs and its application does not. Knative's
// activator holds it until our answer to its probe changes.
func TestKnativesActivatorWaitsForOurProbe(t *testing.T) {
	a := startKnativesActivator(t, 1, "http1")
	later := &application{port: freePort(t), gate: make(chan struct{})}
	probe := fmt.Sprintf(`SERVING_READINESS_PROBE={"tcpSocket":{"port":%d,"host":"127.0.0.1"},"periodSeconds":1}`, later.port)
	p := startRouse(t, later, 1, "127.0.0.2", probe)
	a.pods("http", nil, []*pod{p})
	answered := make(chan outcome, 1)
	go func() { answered <- ask(t.Context(), newClient(t), a.url, headers()...) }()
	if status, _ := p.probe(); status != http.StatusServiceUnavailable {
		t.Errorf("the probe without an application = %d, want 503", status)
	}
	select {
	case o := <-answered:
		t.Errorf("without an application the request was answered %d %q, %v", o.status, o.body, o.err)
	default:
	}
	later.serve(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), later.port))
	select {
	case o := <-answered:
		wantAll(t, []outcome{o}, 200)
	case <-time.After(patience):
		t.Error("the request is held although the application is there")
	}
}

// TestHTTP2ThroughKnativesActivator: a conversation over h2c through Knative's activator and our queue-proxy.
func TestHTTP2ThroughKnativesActivator(t *testing.T) {
	a := startKnativesActivator(t, 0, "h2c")
	p := startRouse(t, startApplication(t), 0, "127.0.0.2")
	a.pods("http2", []*pod{p}, nil)
	conversation(t, newH2Client(t), a.url+"/echo", headers()...)
}
