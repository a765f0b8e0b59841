package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/statstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoadReportsEveryFault(t *testing.T) {
	_, err := load([]string{
		"ROUSE_ACTIVATOR_PORTS=30000-30010", "ROUSE_BUCKETS=0", "ROUSE_ENDPOINTS_PER_SLICE=2000", "ROUSE_STATS_LISTEN=8080", "ROUSE_GRACE=soon",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"ROUSE_ACTIVATOR_PORTS", "node ports", "ROUSE_BUCKETS", "ROUSE_ENDPOINTS_PER_SLICE", "ROUSE_STATS_LISTEN", "ROUSE_GRACE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	s, err := load([]string{"POD_NAME=a", "POD_IP=10.0.0.1"})
	if err != nil || s.peerAddress() != "10.0.0.1:8080" || s.ports.First != 20000 {
		t.Errorf("defaults: %+v, %v", s, err)
	}
}

// output is what the process under test says; it is read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestRunRefuses(t *testing.T) {
	for _, tc := range []struct {
		environ []string
		code    int
		says    string
	}{
		{[]string{"ROUSE_BUCKETS=-1"}, 2, "ROUSE_BUCKETS"},
		{[]string{"ROUSE_LOG_LEVEL=loud"}, 2, "ROUSE_LOG_LEVEL"},
		{[]string{"KUBECONFIG=/does/not/exist"}, 1, "KUBECONFIG"},
		{[]string{"KUBECONFIG=" + kubeconfig(t), "ROUSE_ADMIN_LISTEN=127.0.0.1:0", "ROUSE_STATS_LISTEN=127.0.0.1:0", "ROUSE_ASSIGN_LISTEN=192.0.2.1:1"}, 1, "ROUSE_ASSIGN_LISTEN"},
	} {
		var out output
		if code := run(tc.environ, lifecycle.Signals{}, &out); code != tc.code || !strings.Contains(out.String(), tc.says) {
			t.Errorf("run(%q) = %d, said %q; want %d and %q", tc.environ, code, out.String(), tc.code, tc.says)
		}
	}
}

// kubeconfig leads to a port where nobody listens.
func kubeconfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {token: t}}]\n"+
		"contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n", "http://"+unused(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func unused(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestRunWithoutAnAPIServer: control is alive, not ready, keeps trying, and ends in order when it is told to.
func TestRunWithoutAnAPIServer(t *testing.T) {
	admin := unused(t)
	first := make(chan struct{})
	var out output
	code := make(chan int, 1)
	go func() {
		code <- run([]string{
			"KUBECONFIG=" + kubeconfig(t), "POD_NAME=a", "ROUSE_ADMIN_LISTEN=" + admin, "ROUSE_STATS_LISTEN=127.0.0.1:0", "ROUSE_ASSIGN_LISTEN=127.0.0.1:0",
		}, lifecycle.Signals{First: first, Second: make(chan struct{})}, &out)
	}()
	await(t, "the admin page", func() error {
		status, body := get(t, "http://"+admin+"/healthz")
		if status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	if status, body := get(t, "http://"+admin+"/readyz"); status == http.StatusOK || !strings.Contains(body, "not been read") {
		t.Errorf("ready without a cluster: %d %s", status, body)
	}
	status, body := get(t, "http://"+admin+"/metrics")
	for _, want := range []string{"rouse_control_workloads 0", "rouse_control_buckets_held 0", "rouse_control_activators 0",
		"# TYPE rouse_control_scrapes_total counter", "rouse_control_scrapes_total 0", "rouse_control_scrapes_failed_total 0"} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d, without %q", status, want)
		}
	}
	if status, body := get(t, "http://"+admin+"/activators"); status != http.StatusOK || body != "[]\n" {
		t.Errorf("/activators: %d %q, want a list of none", status, body)
	}
	close(first)
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit %d: %s", got, out.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("does not end: %s", out.String())
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// TestDocumented: every variable that control reads is in its page, and every metric of its own.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := reflect.TypeFor[settings]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("env"); name != "" && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/kubernetes.md does not name %s", name)
		}
	}
	metrics, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{registry: prometheus.NewRegistry()}
	for _, g := range slices.Concat(gauges(n), counters(n)) {
		if !strings.Contains(string(metrics), "`"+g.name+"`") {
			t.Errorf("docs/metrics.md does not name %s", g.name)
		}
	}
}

// answers are what pods say to a scrape, one after the other.
type answers chan string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case body := <-a:
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// TestScrapesAreCounted: those that fail among all.
func TestScrapesAreCounted(t *testing.T) {
	said := answers(make(chan string))
	s, err := statstream.NewScraper(statstream.ScraperConfig{Sink: statstream.Tee{}, HTTP: &http.Client{Transport: said}, Period: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.Put(identity.Revision{Name: "hello"}, []identity.Pod{{UID: "a", Addr: netip.MustParseAddrPort("10.0.0.1:9090")}}, 0)
	for _, body := range []string{"", "no report", ""} {
		said <- body
	}
	values := map[string]float64{}
	await(t, "three scrapes", func() error {
		for _, c := range counters(&node{scraper: s}) {
			values[c.name] = c.value()
		}
		if values["rouse_control_scrapes_total"] != 3 || values["rouse_control_scrapes_failed_total"] != 1 {
			return fmt.Errorf("%v, want that one of three failed", values)
		}
		return nil
	})
	cancel()
	<-ended //nolint:errcheck // it has none
}

// TestActivatorsAreToldHowToChoose: the annotations about choosing among pods mean the same as on one machine.
func TestActivatorsAreToldHowToChoose(t *testing.T) {
	c, faults := config.Resolve(config.Input{Autoscaler: config.DefaultAutoscaler(), Annotations: map[string]string{
		"rouse.dev/pod-probe": "queue", "rouse.dev/session-affinity": "header=Session",
	}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	got := assigned(kube.Routed{Config: c}, 0).Settings.Dispatching
	if got != c.Dispatching() || got == (config.Dispatching{}) {
		t.Errorf("activators are told %+v, want %+v", got, c.Dispatching())
	}
}
