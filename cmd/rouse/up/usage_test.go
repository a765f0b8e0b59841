package up

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/usage"
)

// aimingAt is a service of at most two processes that aims at a resource besides 100 requests in flight.
func aimingAt(name, metrics string) string {
	m := service(name, "autoscale", 0, 2, "")
	return strings.Replace(m, "      annotations:\n", "      annotations:\n        rouse.dev/metrics: "+metrics+"\n", 1)
}

// observed returns what the loop saw of a metric of a service, zero before it saw any.
func (h *house) observed(name, metric string) control.Observed {
	h.t.Helper()
	es, err := h.stack.loop.ExplainService(name)
	if err != nil {
		h.t.Fatal(err)
	}
	i := slices.IndexFunc(es[0].Observed, func(o control.Observed) bool { return o.Metric == metric })
	if i < 0 {
		return control.Observed{}
	}
	return es[0].Observed[i]
}

// keep sends requests, two at a time, until the returned function is called.
func (h *house) keep(name, query string) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if status, _, body, err := h.get(name, query); err != nil || status != http.StatusOK {
					h.t.Errorf("status %d, error %v, body %q; want 200", status, err, body)
					return
				}
			}
		})
	}
	return func() {
		close(done)
		all.Wait()
	}
}

// TestCPUScalesRealProcesses gives a service two requests at a time that compute: too few for a second process by
// their number, too many by what they use.
func TestCPUScalesRealProcesses(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"inprocess", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := start(t, aimingAt("burner", `"cpu=100m"`), func(o *Options) { o.Sidecars = mode })
			defer h.close()
			stop := h.keep("burner", "?cpu=100")
			defer stop()
			h.await("a second process, for the CPU that the first one uses", func() bool {
				ready, _ := h.pods("burner")
				return ready == 2
			})
			cpu, requests := h.observed("burner", "cpu"), h.observed("burner", "concurrency")
			if cpu.StablePods < 2 && cpu.PanicPods < 2 || requests.StablePods > 1 || requests.PanicPods > 1 {
				t.Errorf("CPU %+v, concurrency %+v; want two processes for the CPU alone", cpu, requests)
			}
		})
	}
}

func TestMemoryScalesRealProcesses(t *testing.T) {
	t.Parallel()
	h := start(t, aimingAt("hoarder", `"memory=64Mi"`), nil)
	defer h.close()
	stop := h.keep("hoarder", "?bloat=100&sleep=1200")
	defer stop()
	h.await("a second process, for the memory that the first one holds", func() bool {
		ready, _ := h.pods("hoarder")
		return ready == 2
	})
	if memory := h.observed("hoarder", "memory"); memory.Stable < 64<<20 && memory.Panic < 64<<20 {
		t.Errorf("memory %+v, want more than 64 MiB", memory)
	}
}

func TestWithoutSidecarsNobodyMeasures(t *testing.T) {
	t.Parallel()
	h := start(t, aimingAt("unseen", `"cpu=100m"`), func(o *Options) { o.Sidecars = "none" })
	defer h.close()
	if !strings.Contains(h.out.String(), "--sidecars=none") {
		t.Errorf("nobody was told that the target cannot be measured:\n%s", h.out)
	}
}

// untouched is a source that counts the looks at it.
type untouched struct{ looks int }

func (u *untouched) Sample(time.Time) (usage.Sample, error) {
	u.looks++
	return usage.Sample{CPU: time.Duration(u.looks) * time.Second, Memory: 5}, nil
}

// TestUnaskedNothingIsMeasured saves the look at the process table when no target needs it.
func TestUnaskedNothingIsMeasured(t *testing.T) {
	source, wanted := &untouched{}, false
	u := podUsage{meter: usage.NewMeter(source), wanted: func() bool { return wanted }}
	now := time.Now()
	if cores, bytes := u.Measure(now); cores != 0 || bytes != 0 || source.looks != 0 {
		t.Errorf("%g cores and %g bytes after %d looks, want none", cores, bytes, source.looks)
	}
	wanted = true // the settings changed while the pod runs
	u.Measure(now)
	if cores, bytes := u.Measure(now.Add(time.Second)); cores != 1 || bytes != 5 || source.looks != 2 {
		t.Errorf("%g cores and %g bytes after %d looks, want 1 and 5 after 2", cores, bytes, source.looks)
	}
}
