package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoad(t *testing.T) {
	_, err := load([]string{"ROUSE_LISTEN=8443", "ROUSE_GRACE=-1s"})
	for _, key := range []string{"ROUSE_QUEUEPROXY_IMAGE", "ROUSE_LISTEN", "ROUSE_GRACE"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
	if _, err := load([]string{"ROUSE_QUEUEPROXY_IMAGE=x", "ROUSE_STATS_URL=http://x"}); err == nil || !strings.Contains(err.Error(), "stats URL") {
		t.Errorf("a stats URL of the wrong scheme: %v", err)
	}
	_, err = load([]string{"ROUSE_QUEUEPROXY_IMAGE=x", "ROUSE_SIDECAR_CPU_REQUEST=much", "ROUSE_SIDECAR_MEMORY_REQUEST=64Mi", "ROUSE_SIDECAR_MEMORY_LIMIT=32Mi"})
	for _, want := range []string{`ROUSE_SIDECAR_CPU_REQUEST = "much"`, `ROUSE_SIDECAR_MEMORY_LIMIT = "32Mi": must be at least ROUSE_SIDECAR_MEMORY_REQUEST`} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("error %v does not say once %s", err, want)
		}
	}
	var out bytes.Buffer
	if code := run(nil, lifecycle.Signals{}, &out); code != 2 || !strings.Contains(out.String(), "ROUSE_QUEUEPROXY_IMAGE") {
		t.Errorf("run without an environment = %d %s", code, out.String())
	}
	if code := run([]string{"ROUSE_QUEUEPROXY_IMAGE=x", "KUBECONFIG=/nonexistent"}, lifecycle.Signals{}, &out); code != 1 || !strings.Contains(out.String(), "/nonexistent") {
		t.Errorf("run without a cluster = %d %s", code, out.String())
	}
}

// memory is a store in this process.
type memory struct {
	mu     sync.Mutex // guards the following
	data   map[string][]byte
	bundle []byte
}

func (m *memory) Read(context.Context) (map[string][]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, "1", nil
}

func (m *memory) Write(_ context.Context, data map[string][]byte, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = data
	return nil
}

func (m *memory) Trust(_ context.Context, bundle []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bundle = bundle
	return nil
}

func (m *memory) trusted() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bundle
}

// TestServe: over TLS with the certificate that the API server is told to trust, until a signal, and for a while after.
func TestServe(t *testing.T) {
	s, err := load([]string{"ROUSE_QUEUEPROXY_IMAGE=rouse/queueproxy:v1", "ROUSE_LISTEN=127.0.0.1:0", "ROUSE_ADMIN_LISTEN=127.0.0.1:0", "ROUSE_DRAIN_MINIMUM=300ms", "ROUSE_SIDECAR_CPU_REQUEST=55m"})
	if err != nil {
		t.Fatal(err)
	}
	store, signal := &memory{}, make(chan struct{})
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- serve(&s, store, lifecycle.Signals{First: signal}, slog.New(slog.NewJSONHandler(pw, nil)))
		pw.Close()
	}()
	var line struct{ Address, Admin string }
	sc := bufio.NewScanner(pr)
	for line.Address == "" && sc.Scan() {
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
	}
	var rest sync.WaitGroup
	rest.Go(func() { _, _ = io.Copy(io.Discard, pr) })
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	await(t, "ready", func() bool { return status(plain, "http://"+line.Admin+"/readyz") == 200 })

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(store.trusted())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "rouse-webhook.rouse-system.svc"}}}
	review := func() string {
		resp, err := client.Post("https://"+line.Address+"/inject", "application/json", strings.NewReader(
			`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u1","namespace":"default","operation":"CREATE","resource":{"resource":"pods"},
			"object":{"metadata":{"name":"x","labels":{"rouse.dev/inject":"enabled"}},"spec":{"containers":[{"name":"a","ports":[{"containerPort":80}]}]}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	got := review()
	var answer struct {
		Response struct{ Patch []byte }
	}
	if err := json.Unmarshal([]byte(got), &answer); err != nil || !strings.Contains(got, `"patchType":"JSONPatch"`) || !strings.Contains(string(answer.Response.Patch), `"cpu":"55m"`) {
		t.Errorf("the review of a pod = %s, %s", got, answer.Response.Patch)
	}
	close(signal)
	await(t, "not ready", func() bool { return status(plain, "http://"+line.Admin+"/readyz") == 503 })
	if got := review(); !strings.Contains(got, `"patchType":"JSONPatch"`) {
		t.Errorf("a review after the signal = %s, want it answered: the API server learns late", got)
	}
	if err := <-done; err != nil {
		t.Errorf("serve = %v", err)
	}
	rest.Wait()
}

func status(c *http.Client, url string) int {
	resp, err := c.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(30*time.Second), time.NewTicker(time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never %s", what)
		}
	}
}
