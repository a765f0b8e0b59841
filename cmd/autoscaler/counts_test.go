package main

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/internal/assign"
)

// TestConnectedActivatorsAreCounted, and not those whose stream broke, although their leases are kept for a while.
func TestConnectedActivatorsAreCounted(t *testing.T) {
	server, err := assign.NewServer(assign.ServerConfig{LeaseTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(server)
	defer h.Close()
	count := func(want float64) {
		t.Helper()
		await(t, "the number of activators", func() error {
			for _, g := range gauges(&node{assign: server}) {
				if g.name == "rouse_control_activators" && g.value() != want {
					return fmt.Errorf("%v, want %v", g.value(), want)
				}
			}
			return nil
		})
	}
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"v":1,"hello":{"name":"one","instance":"i"}}`)); err != nil {
		t.Fatal(err)
	}
	count(1)
	_ = conn.CloseNow()
	count(0)
	if n := len(server.Activators()); n != 1 {
		t.Errorf("%d activators known, want the one whose leases are kept", n)
	}
}
