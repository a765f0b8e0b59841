package statstream

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// queueProxy answers scrapes as Knative's does, one host at a time being slow or broken.
func queueProxy(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	switch host {
	case "10.0.0.8": // slow
		select {
		case <-time.After(10 * time.Second):
		case <-r.Context().Done():
		}
	case "10.0.0.9": // broken
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(metrics.AppendStat(nil, &metrics.Stat{PodName: "whatever", AverageConcurrency: 2}))
}

func podAt(uid, addr string) identity.Pod {
	return identity.Pod{UID: uid, Addr: netip.MustParseAddrPort(addr + ":8012")}
}

func TestScraper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		srv := &http.Server{Handler: http.HandlerFunc(queueProxy)}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ln) }()
		in := &inbox{began: time.Now()}
		s, err := NewScraper(ScraperConfig{Sink: in, HTTP: &http.Client{Transport: &http.Transport{DialContext: ln.dial}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		rev := identity.Revision{Namespace: "default", Name: "hello", UID: "1"}
		s.Put(rev, []identity.Pod{podAt("a", "10.0.0.1"), podAt("b", "10.0.0.2"), podAt("slow", "10.0.0.8"), podAt("bad", "10.0.0.9")}, MetricsPort)
		time.Sleep(5*time.Second + time.Millisecond)
		got := map[string]int{}
		for _, line := range in.got() {
			_, what, _ := strings.Cut(line, " ")
			got[what]++
		}
		diff(t, "reports in 5 s", map[string]int{"hello/a 2": 5, "hello/b 2": 5}, got)
		if c := s.Counts(); c.Fetched != 10 || c.Failed < 6 || c.Skipped != 3 {
			t.Errorf("counts %+v: want 10 fetched, 5 refused and 1 out of time, 3 rounds without the slow one", c)
		}

		s.Put(rev, []identity.Pod{podAt("b", "10.0.0.2")}, 0) // at its own port
		before := len(in.got())
		time.Sleep(2 * time.Second)
		for _, line := range slices.Clone(in.got())[before:] {
			if !strings.HasSuffix(line, "hello/b 2") {
				t.Errorf("scraped %q after only b was left", line)
			}
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
		_ = srv.Close() // connections of the broken and the slow one
		<-done          //nolint:errcheck // ErrServerClosed
	})
}

func TestScraperConfig(t *testing.T) {
	_, err := NewScraper(ScraperConfig{Period: 1, Timeout: -1, Workers: -1})
	for _, field := range []string{"Sink", "Period", "Timeout", "Workers"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v does not name %s", err, field)
		}
	}
}
