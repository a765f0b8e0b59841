package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube/knative"
	"github.com/rousehq/rouse/metrics"
)

var cart = identity.Revision{Namespace: "shop", Name: "cart-00001", UID: "u1", Generation: 1}

// unheard is a sink of statistics that nobody reads.
type unheard struct{}

func (unheard) Report(metrics.Message) {}

// serving returns a plane that serves on loopback until the test ends, and its address.
func serving(t *testing.T) (p *plane, url string) {
	t.Helper()
	return measured(t, prometheus.NewRegistry())
}

// measured is serving with metrics in registry.
func measured(t *testing.T, registry *prometheus.Registry) (p *plane, url string) {
	t.Helper()
	s := &settings{Pod: "activator-1", MaxIdlePerHost: 10}
	p = &plane{log: slog.New(slog.DiscardHandler), queueLimit: 100, synced: make(chan struct{})}
	if err := p.build(s, unheard{}, registry); err != nil {
		t.Fatal(err)
	}
	close(p.synced)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- p.server.Serve(ctx, ln) }()
	go func() { ended <- p.activator.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := p.cut(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	return p, "http://" + ln.Addr().String()
}

// podOf is a pod that h answers for.
func podOf(t *testing.T, uid string, state endpoint.State, h http.HandlerFunc) endpoint.Endpoint {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return endpoint.Endpoint{
		Pod:      identity.Pod{UID: uid, Addr: netip.MustParseAddrPort(srv.Listener.Addr().String())},
		Protocol: endpoint.H1, State: state, Sidecar: true,
	}
}

func (p *plane) tell(t *testing.T, pods ...endpoint.Endpoint) {
	t.Helper()
	d := endpoint.Delta{Revision: cart, Version: 1, Upserted: pods}
	next, err := endpoint.Apply(endpoint.Snapshot{Revision: cart}, d)
	if err != nil {
		t.Fatal(err)
	}
	p.Update(endpoint.Update{Snapshot: next, Delta: d})
}

// get asks for the revision as Knative's ingress does.
func get(t *testing.T, url string, fields ...string) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Knative-Serving-Namespace", cart.Namespace)
	req.Header.Set("Knative-Serving-Revision", cart.Name)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// TestReadyPodIsForEveryActivator: of two pods one is ready and one never will be. Whichever of two activators a request
// comes to, the pod that is ready answers it.
func TestReadyPodIsForEveryActivator(t *testing.T) {
	activators := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for _, self := range activators {
		for _, early := range []bool{true, false} { // without: an exec readiness probe
			p, url := serving(t)
			pods := []endpoint.Endpoint{
				podOf(t, "a", endpoint.Ready, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a") }),
				podOf(t, "b", endpoint.Starting, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
			}
			p.Put(knative.Revision{ID: cart, ContainerConcurrency: 100, Timeout: 3 * time.Second, ProbeEarly: early})
			p.Grant(cart, knative.Share(pods, activators, self, 100))
			p.tell(t, pods...)
			if status, body, _ := get(t, url); status != 200 || body != "a" {
				t.Errorf("at %s, probed early %t: %d %q, want 200 of pod a", self, early, status, body)
			}
		}
	}
}

// TestHostAndProtocolAreTheIngresssToSay: behind a DomainMapping the Host that comes is an internal name, and the one that
// the client asked for is in X-Forwarded-Host, if anywhere.
func TestHostAndProtocolAreTheIngresssToSay(t *testing.T) {
	p, url := serving(t)
	seen := make(chan http.Header, 1)
	p.Put(knative.Revision{ID: cart, Timeout: time.Minute})
	p.tell(t, podOf(t, "a", endpoint.Ready, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }))
	get(t, url)
	h := <-seen
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Host") != "" || h.Get("X-Forwarded-Proto") != "" {
		t.Errorf("the pod saw %v, want the client's address and neither host nor protocol", h)
	}
	get(t, url, "X-Forwarded-Host", "shop.example.com", "X-Forwarded-Proto", "https")
	if h := <-seen; h.Get("X-Forwarded-Host") != "shop.example.com" || h.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("the pod saw %v, want what the ingress said", h)
	}
}

// TestNoPodInTimeIsATimeout: what Knative's activator answers when no pod came within timeoutSeconds.
func TestNoPodInTimeIsATimeout(t *testing.T) {
	p, url := serving(t)
	p.Put(knative.Revision{ID: cart, Timeout: 20 * time.Millisecond})
	status, body, header := get(t, url)
	if status != 504 || !strings.Contains(body, "activator request timeout") || header.Get("Retry-After") != "" {
		t.Errorf("without a pod: %d %q, Retry-After %q; want 504, Knative's text and none", status, body, header.Get("Retry-After"))
	}
}

// TestStreamsLastLongerThanTheTimeout, which bounds the time until the response begins.
func TestStreamsLastLongerThanTheTimeout(t *testing.T) {
	p, url := serving(t)
	p.Put(knative.Revision{ID: cart, Timeout: 50 * time.Millisecond})
	p.tell(t, podOf(t, "a", endpoint.Ready, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		<-time.After(150 * time.Millisecond)
		_, _ = io.WriteString(w, "last")
	}))
	if status, body, _ := get(t, url); status != 200 || body != "first last" {
		t.Errorf("%d %q, want the whole stream", status, body)
	}
}

// TestMetricsAsKnativesDashboardsReadThem: names and labels of Knative's activator.
func TestMetricsAsKnativesDashboardsReadThem(t *testing.T) {
	registry := prometheus.NewRegistry()
	p, url := measured(t, registry)
	p.Put(knative.Revision{ID: cart, Service: "cart", Configuration: "cart", Timeout: time.Minute})
	p.tell(t, podOf(t, "a", endpoint.Ready, func(http.ResponseWriter, *http.Request) {}))
	get(t, url)
	want := "configuration_name=cart container_name=activator namespace_name=shop pod_name=activator-1 "
	answered := "response_code=200 response_code_class=2xx "
	const last = "revision_name=cart-00001 service_name=cart "
	missing := map[string]string{
		"activator_request_concurrency": want + last,
		"activator_request_count":       want + answered + last,
		"activator_request_latencies":   want + answered + last,
	}
	for deadline := time.Now().Add(10 * time.Second); len(missing) > 0; { // a request is counted when it has been answered
		if time.Now().After(deadline) {
			t.Fatalf("there is no %v", missing)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			labels := ""
			for _, l := range f.GetMetric()[0].GetLabel() {
				labels += l.GetName() + "=" + l.GetValue() + " "
			}
			if want, ok := missing[f.GetName()]; ok && labels != want {
				t.Errorf("%s has the labels %s, want %s", f.GetName(), labels, want)
			}
			delete(missing, f.GetName())
		}
	}
}
