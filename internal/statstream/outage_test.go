package statstream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// journal keeps the lines of a log.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// take returns the lines so far, and forgets them.
func (j *journal) take() (lines []string) {
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	lines = strings.Split(strings.TrimSuffix(j.b.String(), "\n"), "\n")
	j.b.Reset()
	if lines[0] == "" {
		return nil
	}
	return lines
}

// ward is a running scraper whose pods fail when they are told to.
type ward struct {
	*Scraper
	log journal

	mu   sync.Mutex
	sick map[string]bool // by host; guarded by mu
}

func (w *ward) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	w.mu.Lock()
	sick := w.sick[host]
	w.mu.Unlock()
	if sick {
		http.Error(rw, "no", http.StatusForbidden)
		return
	}
	_, _ = rw.Write(metrics.AppendStat(nil, &metrics.Stat{PodName: "whatever", AverageConcurrency: 2}))
}

func (w *ward) set(sick bool, hosts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hosts {
		w.sick[h] = sick
	}
}

// inWard runs f with a scraper in a bubble.
func inWard(t *testing.T, f func(t *testing.T, w *ward)) {
	synctest.Test(t, func(t *testing.T) {
		w := &ward{sick: map[string]bool{}}
		ln := newPipes()
		srv := &http.Server{Handler: w}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ln) }()
		log := slog.New(slog.NewTextHandler(&w.log, nil))
		s, err := NewScraper(ScraperConfig{Sink: &inbox{began: time.Now()}, Log: log, HTTP: &http.Client{Transport: &http.Transport{DialContext: ln.dial}}})
		if err != nil {
			t.Fatal(err)
		}
		w.Scraper = s
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		f(t, w)
		cancel()
		<-ran //nolint:errcheck // it has none
		_ = srv.Close()
		<-done //nolint:errcheck // ErrServerClosed
	})
}

// lines says what the log should hold since the last time: a part of each line.
func (w *ward) lines(t *testing.T, what string, want ...string) {
	t.Helper()
	got := w.log.take()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: the log says %q, want %q", what, got, want)
	}
}

const (
	failing = "can't be fetched"
	working = "are fetched again"
)

func TestOutageIsSaidOnce(t *testing.T) {
	inWard(t, func(t *testing.T, w *ward) {
		var hosts []string
		var pods []identity.Pod
		for i := range 10 {
			hosts = append(hosts, fmt.Sprintf("10.0.0.%d", i+1))
			pods = append(pods, podAt(hosts[i], hosts[i]))
		}
		rev := identity.Revision{Namespace: "shop", Name: "hello", UID: "1"}
		w.Put(rev, pods, MetricsPort)
		w.set(true, hosts...)
		time.Sleep(4 * time.Second)
		w.lines(t, "after four failures of each pod")
		w.set(false, hosts...)
		time.Sleep(5 * time.Second)
		w.lines(t, "it was over soon")

		w.set(true, hosts[0])
		time.Sleep(time.Minute)
		got := w.log.take()
		if len(got) != 1 {
			t.Fatalf("the log says %q, want one line", got)
		}
		for _, part := range []string{"level=WARN", "revision=shop/hello", "address=10.0.0.1:9090", "status 403", "NetworkPolicy", "stats port 9090"} {
			if !strings.Contains(got[0], part) {
				t.Errorf("the line %s is without %q", got[0], part)
			}
		}
		w.set(true, hosts...)
		w.Put(rev, append(pods, podAt("new", "10.0.0.99")), MetricsPort) // a change of the pods is no end
		time.Sleep(time.Minute)
		w.lines(t, "all others fail, too")
		w.set(false, hosts[1:]...)
		time.Sleep(time.Minute)
		w.lines(t, "one fails still")
		w.set(false, hosts[0])
		time.Sleep(5 * time.Second)
		w.lines(t, "all work", working)
	})
}

func TestOutageOfAPodThatGoes(t *testing.T) {
	inWard(t, func(t *testing.T, w *ward) {
		a, b := podAt("a", "10.0.0.1"), podAt("b", "10.0.0.2")
		rev, other := identity.Revision{Namespace: "shop", Name: "hello", UID: "1"}, identity.Revision{Namespace: "shop", Name: "other", UID: "2"}
		w.set(true, "10.0.0.1")
		w.Put(rev, []identity.Pod{a, b}, MetricsPort)
		time.Sleep(10 * time.Second)
		w.lines(t, "one of two fails", failing)
		w.Put(rev, []identity.Pod{b}, MetricsPort)
		time.Sleep(10 * time.Second)
		w.lines(t, "it is gone", working)
		w.Put(rev, []identity.Pod{a}, MetricsPort)
		w.Put(other, []identity.Pod{a}, MetricsPort)
		time.Sleep(10 * time.Second)
		w.lines(t, "another revision fails", "shop/other")
		w.Put(other, nil, MetricsPort)
		time.Sleep(time.Minute)
		w.lines(t, "the first one a minute later", "shop/hello")
		w.Put(rev, nil, MetricsPort)
		w.set(false, "10.0.0.1")
		time.Sleep(time.Minute)
		w.lines(t, "nobody is scraped")
	})
}

// TestOutagesAreFew: one that comes and goes all the time is not said each time.
func TestOutagesAreFew(t *testing.T) {
	inWard(t, func(t *testing.T, w *ward) {
		w.Put(identity.Revision{Namespace: "shop", Name: "hello", UID: "1"}, []identity.Pod{podAt("a", "10.0.0.1")}, MetricsPort)
		for range 60 {
			w.set(true, "10.0.0.1")
			time.Sleep(8 * time.Second)
			w.set(false, "10.0.0.1")
			time.Sleep(2 * time.Second)
		}
		n := map[string]int{}
		for _, line := range w.log.take() {
			for _, kind := range []string{failing, working} {
				if strings.Contains(line, kind) {
					n[kind]++
				}
			}
		}
		if n[failing] < 5 || n[failing] > 10 || n[working] != n[failing] {
			t.Errorf("in ten minutes %v, want about one of each a minute", n)
		}
	})
}

// TestOutageEndsWithItsPods: what a pod still answers when nobody wants it any more is no news.
func TestOutageEndsWithItsPods(t *testing.T) {
	inWard(t, func(t *testing.T, w *ward) {
		rev := identity.Revision{Namespace: "shop", Name: "hello", UID: "1"}
		w.set(true, "10.0.0.1")
		w.Put(rev, []identity.Pod{podAt("a", "10.0.0.1")}, MetricsPort)
		w.Scraper.mu.Lock()
		p := w.revs[rev].pods[0]
		w.Scraper.mu.Unlock()
		time.Sleep(10 * time.Second)
		w.lines(t, "it fails", failing)
		w.Put(rev, nil, MetricsPort)
		w.note(p, nil)
		w.lines(t, "it is gone")
	})
}
