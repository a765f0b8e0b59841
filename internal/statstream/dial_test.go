package statstream

import (
	"context"
	"errors"
	"net"
	"testing"
)

func TestDialAny(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	refused := errors.New("connection refused")
	asked := map[string]int{}
	for range 200 {
		conn, err := dialAny(t.Context(), []string{"a", "b", "c"}, func(_ context.Context, addr string) (net.Conn, error) {
			asked[addr]++
			if addr == "b" {
				return nil, refused
			}
			return near, nil
		})
		if conn != near || err != nil {
			t.Fatalf("%v, %v; want the connection of one that answers", conn, err)
		}
	}
	if asked["a"] == 0 || asked["b"] == 0 || asked["c"] == 0 || asked["a"]+asked["c"] != 200 {
		t.Errorf("asked %v, want each now and then, and no further one after an answer", asked)
	}
	_, err := dialAny(t.Context(), []string{"a"}, func(context.Context, string) (net.Conn, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Errorf("nobody answers: %v, want why", err)
	}
}
