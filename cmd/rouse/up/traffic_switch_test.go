package up

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// openLoop sends requests at even distances whatever the answers do, each once, and records every outcome: GET and POST,
// on kept and on fresh connections in turn. The benchmarks' generator keeps its connections and counts failures without
// their names, which is too little here.
type openLoop struct {
	addr, host string
	kept       chan *wire // connections that wait for their next request
	mu         sync.Mutex
	all        []outcome // guarded by mu
}

// openLoopMost bounds the requests of an open loop at once: a machine that cannot do the rate gets what it can.
const openLoopMost = 256

func newOpenLoop(h *house, service string) *openLoop {
	return &openLoop{addr: h.Addr.String(), host: service + ".default.example.com", kept: make(chan *wire, openLoopMost)}
}

// run sends until ctx ends, and returns when the last answer is there.
func (l *openLoop) run(ctx context.Context, perSecond int) {
	var flying sync.WaitGroup
	slots := make(chan struct{}, openLoopMost)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < due; sent++ {
			slots <- struct{}{}
			number := sent
			flying.Go(func() { l.one(number); <-slots })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	flying.Wait()
	close(l.kept)
	for w := range l.kept {
		w.hangUp()
	}
}

func (l *openLoop) one(number int) {
	method := [...]string{http.MethodGet, http.MethodPost}[number/2%2]
	w := &wire{addr: l.addr, host: l.host, fresh: number%2 == 0}
	if !w.fresh {
		select {
		case w = <-l.kept:
		default:
		}
	}
	o := w.do(method, fmt.Sprint(number))
	if !w.fresh {
		l.kept <- w
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, o)
}

// newest counts the answers among the last so many that came from a version.
func (l *openLoop) newest(n int, version string) (found int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.all[max(0, len(l.all)-n):] {
		if strings.HasPrefix(o.body, "Hello "+version+"!") {
			found++
		}
	}
	return found
}

// busy is a service whose pods go soon after their traffic.
func busy(target, traffic string) string {
	return strings.Replace(version("busy", target, traffic), "  template:\n",
		"  template:\n    metadata: {annotations: {autoscaling.knative.dev/window: 6s, autoscaling.knative.dev/scale-to-zero-grace-period: 1s}}\n", 1)
}

// TestSwitchingUnderLoadLosesNothing changes versions under 500 requests per second: a new template, then the traffic
// back to the one before it, over and over.
func TestSwitchingUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	const rate, switches = 500, 24
	h := start(t, busy("v0", ""), func(o *Options) { o.Sidecars = "process" })
	defer h.close()
	l := newOpenLoop(h, "busy")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var loops sync.WaitGroup
	loops.Go(func() { l.run(ctx, rate) })
	await := func(version string) {
		t.Helper()
		h.await("only "+version+" answers", func() bool { return l.newest(60, version) == 60 })
	}
	await("v0")
	for i := 1; i <= switches; i++ {
		now, before := fmt.Sprintf("v%d", (i+1)/2), fmt.Sprintf("v%d", (i-1)/2)
		m, to := busy(now, ""), now
		if i%2 == 0 { // the newest stands, and the traffic goes back
			m, to = busy(fmt.Sprintf("v%d", i/2), fmt.Sprintf("  traffic: [{revisionName: busy-%05d, percent: 100}]\n", i/2)), before
		}
		if _, err := h.apply(m); err != nil {
			t.Fatalf("switch %d: %v", i, err)
		}
		await(to)
	}
	stop()
	loops.Wait()
	for i := range l.all {
		if o := &l.all[i]; o.err != nil || o.status != http.StatusOK || !strings.HasPrefix(o.body, "Hello v") {
			t.Error(o)
		}
	}
	tally(t, l.all)
}

// TestSplitOverTenThousand holds 80/20 through activator, queue-proxies and applications, each a process.
func TestSplitOverTenThousand(t *testing.T) {
	t.Parallel()
	const n, parts = 10_000, 8
	h := start(t, version("split", "one", ""), func(o *Options) { o.Sidecars = "process" })
	defer h.close()
	if _, err := h.apply(version("split", "two", `  traffic:
    - {revisionName: split-00001, percent: 80}
    - {revisionName: split-00002, percent: 20}
`)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for part := range parts {
		all.Go(func() {
			w := &wire{addr: h.Addr.String(), host: "split.default.example.com", fresh: part == 0}
			defer w.hangUp()
			for i := range n / parts {
				o := w.do([...]string{http.MethodGet, http.MethodPost}[i%2], "0")
				mu.Lock()
				counts[fmt.Sprint(o.status, " ", strings.Join(strings.Fields(o.body + " . .")[:2], " "))]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Log(counts)
	one, two := counts["200 Hello one!"], counts["200 Hello two!"]
	if one+two != n || one < n*79/100 || one > n*81/100 {
		t.Errorf("answers %v, want %d of 80 to 20 within 1 %%", counts, n)
	}
}
