package conformance

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/rousehq/rouse/internal/endpoint"
)

// TestH2Spec runs h2spec against the engine and against a bare net/http server. The engine may fail no case that the
// bare server passes.
func TestH2Spec(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	})
	bare := bareServer(t, app)
	ours := proxyTo(t, bare, endpoint.H2C)
	bareFailed, bareTotal := h2spec(bare)
	oursFailed, oursTotal := h2spec(ours)
	if oursTotal != bareTotal || oursTotal < 140 {
		t.Errorf("cases run: %d against the engine, %d against net/http", oursTotal, bareTotal)
	}
	for id, what := range oursFailed {
		if _, both := bareFailed[id]; !both {
			t.Errorf("%s fails, and a bare net/http server passes it: %s", id, what)
		}
	}
	t.Logf("of %d cases, net/http fails %d, the engine %d: %v", oursTotal, len(bareFailed), len(oursFailed), oursFailed)
}

// h2spec returns the failed cases by their number, and how many were run.
func h2spec(addr *net.TCPAddr) (failed map[string]string, total int) {
	c := &config.Config{Host: addr.IP.String(), Port: addr.Port, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000}
	failed = make(map[string]string)
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		total += collect(group, failed)
	}
	return failed, total
}

func collect(g *spec.TestGroup, failed map[string]string) (total int) {
	for i, tc := range g.Tests {
		if tc.Result == nil {
			continue
		}
		total++
		if tc.Result.Failed {
			failed[fmt.Sprintf("%s/%d", g.ID(), i+1)] = tc.Desc
		}
	}
	for _, sub := range g.Groups {
		total += collect(sub, failed)
	}
	return total
}
