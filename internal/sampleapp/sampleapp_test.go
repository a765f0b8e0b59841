package sampleapp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// roleEnv makes the test binary play the sample that it names.
const roleEnv = "SAMPLEAPP_TEST_NAME"

func TestMain(m *testing.M) {
	if name := os.Getenv(roleEnv); name != "" {
		if err := Main(name, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func environment(entries ...string) func(string) string {
	return func(name string) string {
		for _, e := range entries {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// fetch asks until somebody listens.
func fetch(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		resp, err := client.Get(url)
		if err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp, body
		}
		select {
		case <-deadline.C:
			t.Fatalf("GET %s: %v", url, err)
		case <-again.C:
		}
	}
}

func TestProcessTellsItsOwnClock(t *testing.T) {
	port := freePort(t)
	before := time.Now()
	proc, err := os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
		Env:   append(os.Environ(), roleEnv+"=hello", "PORT="+port, "TARGET=you", "K_REVISION=hello-1", "STARTUP_DELAY_MS=20"),
		Files: []*os.File{nil, os.Stdout, os.Stderr},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, body := fetch(t, "http://127.0.0.1:"+port+"/")
	after := time.Now()
	if want := fmt.Sprintf("Hello you! (hello-1, process %d)", proc.Pid); !strings.Contains(string(body), want) {
		t.Errorf("body = %q, want %q in it", body, want)
	}
	started, listened := nanos(t, resp, HeaderExec), nanos(t, resp, HeaderListen)
	// The kernel counts the start in ticks of 10 ms, and two clocks are read one after the other.
	if started.Before(before.Add(-2*tick)) || listened.After(after) {
		t.Errorf("started %v after we began, listened %v before we were answered", started.Sub(before), after.Sub(listened))
	}
	if d := listened.Sub(started); d < 20*time.Millisecond {
		t.Errorf("listened %v after the start, want the start-up delay of 20ms", d)
	}
	_, body = fetch(t, "http://127.0.0.1:"+port+StatsPath)
	var stats Stats
	if err := json.Unmarshal(body, &stats); err != nil {
		t.Fatalf("stats %q: %v", body, err)
	}
	want := Stats{PID: proc.Pid, Served: 1, MaxConcurrency: 1, ExecUnixNano: started.UnixNano(), ListenUnixNano: listened.UnixNano()}
	if stats != want {
		t.Errorf("stats = %+v, want %+v", stats, want)
	}
	if err := proc.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state, err := proc.Wait(); err != nil || !state.Success() {
		t.Errorf("after SIGTERM: %v, %v, want exit status 0", state, err)
	}
}

func nanos(t *testing.T, resp *http.Response, header string) time.Time {
	t.Helper()
	n, err := strconv.ParseInt(resp.Header.Get(header), 10, 64)
	if err != nil {
		t.Fatalf("%s = %q: %v", header, resp.Header.Get(header), err)
	}
	return time.Unix(0, n)
}

func TestMostAtOnceIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newApp("autoscale", environment(), t.Output())
		if err != nil {
			t.Fatal(err)
		}
		var requests sync.WaitGroup
		ask := func(target, agent string) {
			requests.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
				r.Header.Set("User-Agent", agent)
				a.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		for range 3 {
			ask("/?sleep=100", "")
		}
		ask("/?sleep=100", "kube-probe/1.30") // a probe is no request
		ask("/healthz", "")
		requests.Wait()
		ask("/?sleep=10", "")
		requests.Wait()
		if got := a.stats(); got.MaxConcurrency != 3 || got.Served != 4 {
			t.Errorf("stats = %+v, want 4 served, 3 at once", got)
		}
	})
}

func TestAutoscaleTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newApp("autoscale", environment(), t.Output())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a.exec.Store(began.UnixNano())
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?startup=300&sleep=200&bloat=1&prime=100", nil))
		if got, want := time.Since(began), 500*time.Millisecond; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		for _, want := range []string{"the largest prime up to 100 is 97", "held 1 MB"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("body = %q, want %q in it", w.Body, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/?sleep=1000", nil))
		if got, want := time.Since(began), 500*time.Millisecond; got != want {
			t.Errorf("a client that left was waited for: %v, want %v", got, want)
		}
	})
}

func TestBadInputIsNamed(t *testing.T) {
	for _, query := range []string{"sleep=x", "cpu=-1", "prime=99999999999", "bloat=5000", "startup=1.5"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(query, "=")
		if _, err := parseJob(q); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("parseJob(%s) = %v, want an error that names it", query, err)
		}
	}
	if err := Main("nothing", nil); err == nil || !strings.Contains(err.Error(), "hello, event-display, autoscale") {
		t.Errorf("Main(nothing) = %v, want the names that there are", err)
	}
	if err := Main("hello", []string{"-x"}); err == nil {
		t.Error("Main with arguments = nil, want an error")
	}
	a, err := newApp("hello", environment("STARTUP_DELAY_MS=soon"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.run(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "STARTUP_DELAY_MS") {
		t.Errorf("run with a bad delay = %v, want it named", err)
	}
	a.getenv = environment("PORT=none")
	if err := a.run(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "PORT=none") {
		t.Errorf("run with a bad port = %v, want it named", err)
	}
}

func TestLargestPrimeAgainstDivision(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 3000).Draw(rt, "n")
		want := 0
		for c := 2; c <= n; c++ {
			prime := true
			for d := 2; d*d <= c; d++ {
				prime = prime && c%d != 0
			}
			if prime {
				want = c
			}
		}
		if got := largestPrime(n); got != want {
			rt.Fatalf("largestPrime(%d) = %d, want %d", n, got, want)
		}
	})
}

func TestExecTimeStaysInItsTick(t *testing.T) {
	now := time.Now()
	floor, err := startTick(now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := execTime(now)
	if err != nil || got.Before(floor.Add(-time.Millisecond)) || got.After(floor.Add(tick+time.Millisecond)) {
		t.Errorf("execTime = %v, %v, want it within a tick of %v", got, err, floor)
	}
	for _, bad := range []string{"", "1 (x) S", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 nineteen"} {
		if _, err := parseStart([]byte(bad)); err == nil {
			t.Errorf("parseStart(%q) = nil error", bad)
		}
	}
}
