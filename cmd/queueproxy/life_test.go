package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rousehq/rouse/metrics"
)

// TestServing asks every port what its readers ask.
func TestServing(t *testing.T) {
	r := start(t, environ(application(t, hello), `SERVING_READINESS_PROBE={"tcpSocket":{"port":0},"successThreshold":1}`))
	defer r.stop()
	if resp, body := r.get("QUEUE_SERVING_PORT", "/wait-for-drain"); resp.StatusCode != 200 || body != "hello from /wait-for-drain" {
		t.Errorf("an admin path on the serving port = %d %q, want the application's answer", resp.StatusCode, body)
	}
	for _, c := range []struct {
		name, agent, asks string
		status            int
		body              string
	}{
		{"kubelet", "kube-probe/1.30", "queue", 200, "queue"},
		{"activator", "Knative-Activator-Probe", "queue", 200, "queue"},
		{"another proxy", "Knative-Activator-Probe", "activator", 400, "unexpected"},
		{"an ingress without a hash", "curl/8", "probe", 400, "a network probe needs"},
		{"a client", "curl/8", "queue", 200, "hello from /healthz"},
	} {
		resp, body := r.get("QUEUE_SERVING_PORT", "/healthz", "User-Agent", c.agent, "K-Network-Probe", c.asks)
		if resp.StatusCode != c.status || !strings.HasPrefix(body, c.body) {
			t.Errorf("probe of %s = %d %q, want %d %q", c.name, resp.StatusCode, body, c.status, c.body)
		}
	}
	if resp, body := r.get("QUEUE_SERVING_PORT", "/", "K-Network-Probe", "probe", "K-Network-Hash", "abc"); resp.StatusCode != 200 || resp.Header.Get("K-Network-Hash") != "abc" || body != "" {
		t.Errorf("probe of an ingress = %d %v %q, want 200 and its hash", resp.StatusCode, resp.Header, body)
	}
	if _, page := r.get("ROUSE_METRICS_PORT", "/metrics"); !strings.Contains(page, `revision_request_count{configuration_name="hello"`) || !strings.Contains(page, "go_goroutines") {
		t.Errorf("the metrics page lacks requests or the runtime:\n%s", page)
	}
	if _, page := r.get("ROUSE_ADMIN_PORT", "/config"); !strings.Contains(page, `"limit":10`) || !strings.Contains(page, `"readiness_probes":1`) {
		t.Errorf("/config = %s, want the limit and the probe", page)
	}
}

// TestHeaders sends what an ingress and an activator send, and looks at what reaches the application.
func TestHeaders(t *testing.T) {
	received := make(chan *http.Request, 1)
	r := start(t, environ(application(t, func(_ http.ResponseWriter, r *http.Request) { received <- r.Clone(t.Context()) })))
	r.get("QUEUE_SERVING_PORT", "/", "K-Original-Host", "hello.default.example.com", "K-Proxy-Request", "activator",
		"Knative-Serving-Namespace", "default", "Knative-Serving-Revision", "hello-00001",
		"X-Forwarded-For", "192.0.2.7, 2001:db8::1", "X-Forwarded-Host", "hello.example.com", "X-Forwarded-Proto", "https")
	r.stop()
	req := <-received
	seen := req.Header
	if req.Host != "hello.default.example.com" {
		t.Errorf("host = %q, want the original one", req.Host)
	}
	for _, gone := range []string{"K-Original-Host", "Knative-Serving-Namespace", "Knative-Serving-Revision"} {
		if v := seen.Get(gone); v != "" {
			t.Errorf("%s = %q reached the application", gone, v)
		}
	}
	for name, want := range map[string]string{
		"Forwarded":         `for=192.0.2.7;host=hello.example.com;proto=https, for="[2001:db8::1]"`,
		"X-Forwarded-For":   "192.0.2.7, 2001:db8::1, 127.0.0.1",
		"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hello.example.com", "K-Proxy-Request": "activator",
	} {
		if got := seen.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

// TestHostAndProtocolAreTheFrontsToSay: behind an activator the Host that comes is the pod's address, behind a Service
// nobody stands in front who could say more than the Host does.
func TestHostAndProtocolAreTheFrontsToSay(t *testing.T) {
	received := make(chan *http.Request, 1)
	r := start(t, environ(application(t, func(_ http.ResponseWriter, r *http.Request) { received <- r.Clone(t.Context()) })))
	defer r.stop()
	for name, sent := range map[string][]string{"behind an activator": {"K-Original-Host", "hello.default.example.com"}, "behind a Service": nil} {
		r.get("QUEUE_SERVING_PORT", "/", sent...)
		req := <-received
		if got := req.Header.Get("X-Forwarded-For"); got != "127.0.0.1" {
			t.Errorf("%s: X-Forwarded-For = %q, want the caller", name, got)
		}
		for _, field := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
			if v := req.Header.Get(field); v != "" {
				t.Errorf("%s: %s = %q, want none", name, field, v)
			}
		}
	}
}

// TestStatsAsKnativesAutoscalerReadsThem: one Stat in protobuf, small enough for its reader.
func TestStatsAsKnativesAutoscalerReadsThem(t *testing.T) {
	r := start(t, environ(application(t, hello)))
	defer r.stop()
	var st metrics.Stat
	r.until("a period with a request", func() bool {
		r.get("QUEUE_SERVING_PORT", "/", "K-Proxy-Request", "activator")
		resp, body := r.get("ROUSE_STATS_PORT", "/metrics")
		if got := resp.Header.Get("Content-Type"); got != "application/protobuf" || len(body) > 336 {
			t.Fatalf("%d bytes of %s, want at most 336 of application/protobuf", len(body), got)
		}
		var d metrics.Decoder
		if err := d.Stat([]byte(body), &st); err != nil {
			t.Fatal(err)
		}
		return st.RequestCount > 0
	})
	if st.PodName != "hello-1" || st.ProxiedRequestCount != st.RequestCount || st.Timestamp == 0 || st.ProcessUptime <= 0 {
		t.Errorf("stat = %+v, want the pod's, all of it proxied", st)
	}
}

// TestStatsSayWhatTheApplicationUses measures this test as the application, and a cgroup that is files in a folder.
func TestStatsSayWhatTheApplicationUses(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"cpu.stat": "usage_usec 5\n", "memory.current": "4096\n", "memory.stat": "inactive_file 96\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for variable, least := range map[string]float64{"ROUSE_APP_PID=" + strconv.Itoa(os.Getpid()): 1 << 20, "ROUSE_APP_CGROUP=" + folder: 4000} {
		r := start(t, append(environ(application(t, hello)), variable))
		var st metrics.Stat
		r.until("a report of "+variable, func() bool {
			_, body := r.get("ROUSE_STATS_PORT", "/metrics")
			var d metrics.Decoder
			if err := d.Stat([]byte(body), &st); err != nil {
				t.Fatal(err)
			}
			return st.Extension.Memory > 0
		})
		if st.Extension.Memory < least || variable == "ROUSE_APP_CGROUP="+folder && st.Extension.Memory != least {
			t.Errorf("%s: %g bytes, want %g", variable, st.Extension.Memory, least)
		}
		r.stop()
	}
}

// TestNotReadyUntilTheApplicationIs probes an application that is not there.
func TestNotReadyUntilTheApplicationIs(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(hello))
	addr := app.Listener.Addr().String()
	r := start(t, environ(addr, `SERVING_READINESS_PROBE=[{"httpGet":{"path":"/ready","port":0},"periodSeconds":1}]`))
	defer r.stop()
	ready := func() int {
		resp, _ := r.get("QUEUE_SERVING_PORT", "/", "User-Agent", "kube-probe/1", "K-Network-Probe", "queue")
		return resp.StatusCode
	}
	if got := ready(); got != 200 {
		t.Errorf("probe with the application = %d, want 200", got)
	}
	app.Close()
	if got := ready(); got != 503 {
		t.Errorf("probe without the application = %d, want 503", got)
	}
}

// TestReadinessKeepsThePace: kubelet asks as often as it likes, and the application is asked when its period is over.
func TestReadinessKeepsThePace(t *testing.T) {
	var asked atomic.Int64
	app := application(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for paced, want := range map[string]int64{"true": 1, "false": 3} {
		asked.Store(0)
		r := start(t, environ(app, `SERVING_READINESS_PROBE={"httpGet":{"port":0},"periodSeconds":3600}`, "ROUSE_READINESS_PACED="+paced))
		for range 3 {
			if resp, _ := r.get("QUEUE_SERVING_PORT", "/", "User-Agent", "kube-probe/1", "K-Network-Probe", "queue"); resp.StatusCode != 200 {
				t.Errorf("paced: %s: %d", paced, resp.StatusCode)
			}
		}
		r.stop()
		if got := asked.Load(); got != want {
			t.Errorf("paced: %s: the application was asked %d times, want %d", paced, got, want)
		}
	}
}

// TestRequestLog writes a line per request to stdout, with probes only when asked for.
func TestRequestLog(t *testing.T) {
	app := application(t, hello)
	const line = "{{.Request.Method}} {{.Request.RequestURI}} {{.Response.Code}} {{.Response.Size}} {{.Revision.PodName}}"
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"0.42": {[]string{"SERVING_ENABLE_REQUEST_LOG=true", "SERVING_REQUEST_LOG_TEMPLATE=" + line}, "GET /a?b 200 13 hello-1\n"},
		"main, with probes": {[]string{`OBSERVABILITY_CONFIG={"Tracing":{},"Metrics":{},"Runtime":{"profiling":"disabled"},"requestMetrics":{},"enableRequestLog":true,"requestLogTemplate":"` +
			line + `","enableProbeRequestLog":true}`}, "GET /a?b 200 13 hello-1\nGET /p 200 5 hello-1\n"},
		"off": {[]string{"SERVING_REQUEST_LOG_TEMPLATE=" + line}, ""},
	} {
		r := start(t, environ(app, c.env...))
		r.get("QUEUE_SERVING_PORT", "/a?b")
		r.get("QUEUE_SERVING_PORT", "/p", "User-Agent", "kube-probe/1")
		r.stop()
		lines := strings.SplitAfter(r.stdout.String(), "\n") // in the order in which they were written, not sent
		slices.Sort(lines)
		if got := strings.Join(lines, ""); got != c.want {
			t.Errorf("%s: wrote %q, want %q", name, got, c.want)
		}
	}
}

// TestRequestLogThatCannotBeStopsNothing: Knative's check of its ConfigMap lets through what our templates do not have.
func TestRequestLogThatCannotBeStopsNothing(t *testing.T) {
	for template, want := range map[string]string{`{{call .Request.GetBody}}`: `function \"call\" not defined`, "{{": "request log template"} {
		r := start(t, environ(application(t, hello), "SERVING_ENABLE_REQUEST_LOG=true", "SERVING_REQUEST_LOG_TEMPLATE="+template))
		if resp, body := r.get("QUEUE_SERVING_PORT", "/a"); resp.StatusCode != 200 || body != "hello from /a" {
			t.Errorf("%s: %d %q, want the application's answer", template, resp.StatusCode, body)
		}
		if _, page := r.get("ROUSE_ADMIN_PORT", "/config"); !strings.Contains(page, `"request_log":false`) {
			t.Errorf("%s: /config = %s, want no request log", template, page)
		}
		r.stop()
		if log := r.stderr.String(); r.stdout.String() != "" || !strings.Contains(log, `"ERROR"`) || !strings.Contains(log, want) {
			t.Errorf("%s: wrote %q and logged %s; want nothing, and an error that says %s", template, r.stdout.String(), log, want)
		}
	}
}

// TestProfilesOnlyWhenAskedFor opens the port of profiles.
func TestProfilesOnlyWhenAskedFor(t *testing.T) {
	r := start(t, environ(application(t, hello), "ENABLE_PROFILING=true", "ROUSE_PROFILE_PORT=0"))
	if resp, body := r.get("ROUSE_PROFILE_PORT", "/debug/pprof/goroutine?debug=1"); resp.StatusCode != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("goroutine profile = %d %.80q", resp.StatusCode, body)
	}
	if resp, _ := r.get("ROUSE_PROFILE_PORT", "/debug/pprof/none"); resp.StatusCode != 404 {
		t.Errorf("unknown profile = %d, want 404", resp.StatusCode)
	}
	r.stop()
	if strings.Contains(r.stderr.String(), "ROUSE_PROFILE_PORT") == strings.Contains(quiet(t), "ROUSE_PROFILE_PORT") {
		t.Error("the port of profiles is open without being asked for")
	}
}

// TestMetricsPortIsOthersWithoutPrometheus: Knative says with its backend whether there is one, and another container of the
// pod may serve there.
func TestMetricsPortIsOthersWithoutPrometheus(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, backend := range []string{"none", "opencensus"} {
		r := start(t, environ(application(t, hello), "ROUSE_METRICS_PORT="+port, "SERVING_REQUEST_METRICS_BACKEND="+backend))
		if resp, _ := r.get("QUEUE_SERVING_PORT", "/"); resp.StatusCode != 200 {
			t.Errorf("backend %q: %d, want the application's answer", backend, resp.StatusCode)
		}
		r.stop()
	}
	r := start(t, environ(application(t, hello), "SERVING_REQUEST_METRICS_BACKEND=prometheus"))
	r.addr("ROUSE_METRICS_PORT")
	r.stop()
}

// quiet runs a sidecar without profiles and returns its log.
func quiet(t *testing.T) string {
	t.Helper()
	r := start(t, environ("127.0.0.1:1"))
	r.stop()
	return r.stderr.String()
}

// TestEncryptedPort serves the mounted certificate, at TLS 1.3 and no less.
func TestEncryptedPort(t *testing.T) {
	template := httptest.NewTLSServer(nil) // for its certificate
	defer template.Close()
	pair := template.TLS.Certificates[0]
	dir := t.TempDir()
	keyDER, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "tls.key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, environ(application(t, hello), "ROUSE_CERT_DIR="+dir))
	defer r.stop()
	roots := x509.NewCertPool()
	roots.AddCert(template.Certificate())
	trust := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}, Timeout: limit}
	resp, body := r.ask(client, "https://"+r.addr("QUEUE_SERVING_TLS_PORT")+"/secret")
	if body != "hello from /secret" || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("over TLS %x: %q, want 1.3 and the application's answer", resp.TLS.Version, body)
	}
	old := trust.Clone()
	old.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", r.addr("QUEUE_SERVING_TLS_PORT"), old); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if _, body := r.get("QUEUE_SERVING_PORT", "/clear"); body != "hello from /clear" {
		t.Errorf("the port in clear text = %q, want it to stay", body)
	}
}

// slow is an application whose requests to /slow end when released.
func slow(t *testing.T) (addr string, began, release chan struct{}) {
	t.Helper()
	began, release = make(chan struct{}, 10), make(chan struct{})
	return application(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			began <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		hello(w, r)
	}), began, release
}

// TestDrain: SIGTERM with a request in flight. Probes fail at once, the application's hook waits, the request gets its
// answer on a connection that closes, and the process ends with 0.
func TestDrain(t *testing.T) {
	app, began, release := slow(t)
	r := start(t, environ(app))
	var all sync.WaitGroup
	all.Go(func() {
		if resp, body := r.get("QUEUE_SERVING_PORT", "/slow"); resp.StatusCode != 200 || body != "hello from /slow" || !resp.Close {
			t.Errorf("the request in flight = %d %q, close %t; want its answer and Connection: close", resp.StatusCode, body, resp.Close)
		}
	})
	<-began
	r.signals <- syscall.SIGTERM
	r.until("a probe that fails", func() bool {
		resp, _ := r.get("QUEUE_SERVING_PORT", "/", "User-Agent", "kube-probe/1")
		return resp.StatusCode == 503
	})
	if _, body := r.get("QUEUE_SERVING_PORT", "/late"); body != "hello from /late" {
		t.Errorf("a request while draining = %q, want it served", body)
	}
	all.Go(func() {
		if resp, body := r.get("ROUSE_ADMIN_PORT", "/wait-for-drain"); resp.StatusCode != 200 || body != "drained\n" {
			t.Errorf("/wait-for-drain = %d %q, want drained", resp.StatusCode, body)
		}
	})
	r.until("the hook that waits", func() bool {
		_, page := r.get("ROUSE_ADMIN_PORT", "/config")
		return strings.Contains(page, `"draining":true,"waiting_for_drain":1`)
	})
	close(release)
	r.ended(0)
	all.Wait()
}

// TestSecondSignal cuts the request that the first one waited for.
func TestSecondSignal(t *testing.T) {
	app, began, _ := slow(t)
	r := start(t, environ(app))
	cut := make(chan error, 1)
	go func() {
		resp, err := r.client.Get("http://" + r.addr("QUEUE_SERVING_PORT") + "/slow")
		if err == nil {
			resp.Body.Close()
		}
		cut <- err
	}()
	<-began
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGINT
	r.ended(1)
	if err := <-cut; err == nil {
		t.Error("the request in flight was answered, want it cut")
	}
	if !strings.Contains(r.stderr.String(), "requests were cut") {
		t.Errorf("the log does not say that requests were cut:\n%s", r.stderr.String())
	}
}

// TestSecondSIGTERM: a pod is deleted after its processes were told to end by somebody else.
func TestSecondSIGTERM(t *testing.T) {
	app, began, finish := slow(t)
	r := start(t, environ(app))
	answered := make(chan error, 1)
	go func() {
		resp, err := r.client.Get("http://" + r.addr("QUEUE_SERVING_PORT") + "/slow")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	<-began
	for range 4 { // the channel holds two: when the fourth is in, the second was taken
		r.signals <- syscall.SIGTERM
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	r.ended(0)
}

// TestOwnHookDrains: /drain is for the sidecar's own preStop hook; the process stays until it is told to end.
func TestOwnHookDrains(t *testing.T) {
	r := start(t, environ(application(t, hello)))
	if resp, _ := r.get("ROUSE_ADMIN_PORT", "/drain"); resp.StatusCode != 200 {
		t.Errorf("/drain = %d, want 200 at once", resp.StatusCode)
	}
	if resp, _ := r.get("QUEUE_SERVING_PORT", "/", "User-Agent", "kube-probe/1"); resp.StatusCode != 503 {
		t.Errorf("probe after /drain = %d, want 503", resp.StatusCode)
	}
	if _, body := r.get("ROUSE_ADMIN_PORT", "/wait-for-drain"); body != "drained\n" {
		t.Errorf("/wait-for-drain = %q, want drained", body)
	}
	if _, body := r.get("QUEUE_SERVING_PORT", "/still"); body != "hello from /still" {
		t.Errorf("a request after the drain = %q, want it served until the end", body)
	}
	r.stop()
}
