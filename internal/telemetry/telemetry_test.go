package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLoggerFormats(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger(&out, LogConfig{Format: "json", Level: "warn", Component: "activator"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this")
	level.Set(slog.LevelInfo)
	log.Info("and this")
	var msgs []string
	for raw := range strings.Lines(out.String()) {
		var line struct{ Msg, Component string }
		if err := json.Unmarshal([]byte(raw), &line); err != nil || line.Component != "activator" {
			t.Errorf("line %q: component %q, error %v", raw, line.Component, err)
		}
		msgs = append(msgs, line.Msg)
	}
	if got := strings.Join(msgs, "; "); got != "this; and this" {
		t.Errorf("logged %q, want this; and this", got)
	}

	out.Reset()
	log, _, err = NewLogger(&out, LogConfig{})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hello", "pods", 3)
	if got := out.String(); !strings.Contains(got, "msg=hello pods=3") {
		t.Errorf("text line = %q", got)
	}
}

func TestLoggerRefusesNonsense(t *testing.T) {
	for _, cfg := range []LogConfig{{Format: "xml"}, {Level: "loud"}} {
		if _, _, err := NewLogger(&bytes.Buffer{}, cfg); err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("NewLogger(%+v) error = %v", cfg, err)
		}
	}
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestAdminHandler(t *testing.T) {
	ready := errors.New("draining")
	cfg := AdminConfig{Gatherer: NewRegistry(), Ready: func() error { return ready }}
	h := NewAdminHandler(cfg)
	tests := []struct {
		path string
		code int
		body string
	}{
		{"/metrics", 200, "go_goroutines"},
		{"/healthz", 200, "ok"},
		{"/readyz", 503, "draining"},
		{"/debug/pprof/", 404, ""},
	}
	for _, tt := range tests {
		if w := get(h, tt.path); w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("GET %s = %d %.60q, want %d with %q", tt.path, w.Code, w.Body, tt.code, tt.body)
		}
	}
	ready = nil
	if w := get(h, "/readyz"); w.Code != 200 {
		t.Errorf("GET /readyz when ready = %d", w.Code)
	}
	cfg.Profiles = true
	if w := get(NewAdminHandler(cfg), "/debug/pprof/"); w.Code != 200 {
		t.Errorf("GET /debug/pprof/ with profiles = %d", w.Code)
	}
}
