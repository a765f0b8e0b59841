package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log that a test can look into while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// field returns a field of the first log line with the message.
func (l *lines) field(msg, name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range strings.Split(l.buf.String(), "\n") {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			s, _ := m[name].(string)
			return s
		}
	}
	return ""
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Two sources in a file, one of them broken: the other runs, with an embedded broker, health and metrics.
func TestRunsWhatWorks(t *testing.T) {
	var mu sync.Mutex
	var got []string
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(body))
	}))
	defer sink.Close()
	file := filepath.Join(t.TempDir(), "sources.yaml")
	text := `apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata: {name: broken}
spec: {bootstrapServers: [embedded], topics: [t], sink: {uri: "` + sink.URL + `"}, delivery: {backoffDelay: soon}}
---
apiVersion: sources.knative.dev/v1beta1
kind: KafkaSource
metadata: {name: good}
spec: {bootstrapServers: [embedded], topics: [t], initialOffset: earliest, sink: {uri: "` + sink.URL + `"}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := &lines{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"-f", file, "-data", t.TempDir(), "-listen", "127.0.0.1:0"}, log) }()
	await(t, "the broker", func() bool { return log.field("embedded broker", "bootstrap") != "" })
	await(t, "the address", func() bool { return log.field("health and metrics", "addr") != "" })
	c, err := kgo.NewClient(kgo.SeedBrokers(log.field("embedded broker", "bootstrap")), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	await(t, "the record", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 1 && got[0] == "hello"
	})
	if e := log.field("source does not run; others go on", "error"); !strings.Contains(e, "spec.delivery.backoffDelay") {
		t.Errorf("the broken source's error is %q", e)
	}
	addr := "http://" + log.field("health and metrics", "addr")
	await(t, "the metric", func() bool {
		return strings.Contains(get(t, addr+"/metrics"), `rouse_dispatch_records_delivered_total{source="default/good"} 1`)
	})
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("run = %d, want 0", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}

func TestNothingToRunIsAnError(t *testing.T) {
	for _, args := range [][]string{{}, {"-f", "/does/not/exist"}, {"-nope"}} {
		if code := run(t.Context(), args, io.Discard); code == 0 {
			t.Errorf("run(%q) = 0", args)
		}
	}
	if code := run(t.Context(), []string{"-h"}, io.Discard); code != 0 {
		t.Errorf("run(-h) = %d, want 0", code)
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "ns", "s"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ns", "s", "k"), []byte("v\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &files{secrets: dir, domain: "d"}
	if v, err := f.Secret("ns", "s", "k"); v != "v" || err != nil {
		t.Errorf("Secret = %q, %v", v, err)
	}
	if v, err := f.Secret("ns", "..", "../../etc/passwd"); err == nil {
		t.Errorf("a secret outside of the directory was read: %q", v)
	}
}
