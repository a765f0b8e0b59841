package up

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/sampleapp"
)

// choices are the activators that a client would choose from: those that are ready and do not drain, as endpoints say.
func (h *house) choices() (addrs []string) {
	for _, a := range h.stack.activators.server.Activators() {
		if a.Ready && a.Connected && !a.Draining {
			addrs = append(addrs, a.Addr)
		}
	}
	return addrs
}

// flood sends requests through the activators that pick chooses until stop is called.
type flood struct {
	h    *house
	stop func()
	wg   sync.WaitGroup

	mu      sync.Mutex
	total   int            // guarded by mu
	through map[string]int // guarded by mu
}

func (h *house) flood(n int, pick func(client int) string) *flood {
	ctx, cancel := context.WithCancel(context.Background())
	f := &flood{h: h, stop: cancel, through: map[string]int{}}
	h.t.Cleanup(f.end)
	for i := range n {
		f.wg.Go(func() {
			for ctx.Err() == nil {
				f.one(pick(i))
			}
		})
	}
	return f
}

func (f *flood) one(addr string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/?sleep=5", nil)
	if err != nil {
		panic(err)
	}
	req.Host = "victim.default.example.com"
	res, err := f.h.client.Do(req)
	if err != nil {
		f.h.t.Errorf("through %s: %v", addr, err)
		return
	}
	res.Body.Close()
	if most := res.Header.Get(sampleapp.HeaderMaxConcurrency); res.StatusCode != http.StatusOK || most != "1" {
		f.h.t.Errorf("through %s: status %d, the process saw %s requests at once; want 200 and 1", addr, res.StatusCode, most)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	f.through[addr]++
}

func (f *flood) count(addr string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if addr == "" {
		return f.total
	}
	return f.through[addr]
}

func (f *flood) end() { f.stop(); f.wg.Wait() }

// TestSeveralActivatorsKeepAPodsLimit: three processes, pods that take one request at a time. Nobody waits for ever, no
// process ever sees two, whether one pod has to go round or each has several.
func TestSeveralActivatorsKeepAPodsLimit(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"none", "process"} {
		for _, pods := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s/%d pods", mode, pods), func(t *testing.T) {
				t.Parallel()
				h := start(t, service("victim", "autoscale", 1, pods, ""), func(o *Options) {
					o.Sidecars, o.Activators = mode, 3
				})
				defer h.close()
				addrs := h.choices()
				if len(addrs) != 3 {
					t.Fatalf("activators at %v, want 3", addrs)
				}
				f := h.flood(12, func(i int) string { return addrs[i%3] })
				for _, a := range addrs {
					h.await("everybody is served at "+a, func() bool { return f.count(a) >= 100 || t.Failed() })
				}
				f.end()
				// Load at one alone gets all there is.
				id, err := h.stack.fleet.current("victim")
				if err != nil {
					t.Fatal(err)
				}
				one := h.flood(2*pods, func(int) string { return addrs[1] })
				h.await("all slots are with the one that has load", func() bool {
					return h.slotsOf(addrs[1]) == len(h.stack.book.Snapshot(id).Endpoints) && one.count("") > 100 || t.Failed()
				})
				one.end()
			})
		}
	}
}

// slotsOf is how many slots an activator has now.
func (h *house) slotsOf(addr string) (n int) {
	server := h.stack.activators.server
	id, err := h.stack.fleet.current("victim")
	if err != nil {
		h.t.Fatal(err)
	}
	i := slices.IndexFunc(server.Activators(), func(a assign.ActivatorState) bool { return a.Addr == addr })
	instance := server.Activators()[i].Instance
	for _, e := range h.stack.book.Snapshot(id).Endpoints {
		n += server.Leases(id, e.Pod.UID)[instance]
	}
	return n
}

// TestStopsOfActivatorsLoseNothing stops one activator after the other at random moments. Clients take one that does
// not drain, as endpoints would have them do, and send nothing twice.
func TestStopsOfActivatorsLoseNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"none", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			seed := *faultSeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano())
			}
			t.Logf("repeat with -fault-seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			h := start(t, ledgerService(t, 2, 4), func(o *Options) {
				o.Sidecars, o.Activators, o.Set = mode, 3, []string{"min-scale=3"}
			})
			defer h.close()
			r := h.roam(8)
			for range *faultRounds {
				until := r.count() + 30 + random.IntN(60)
				h.await("the clients go on", func() bool { return r.count() >= until })
				place := random.IntN(3)
				pid := h.stack.activators.pid(place)
				if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				h.await("another takes its place", func() bool {
					now := h.stack.activators.pid(place)
					return now != 0 && now != pid && len(h.choices()) == 3
				})
			}
			total := r.count()
			for _, o := range r.end() {
				t.Errorf("%s; want a complete 200", o.String())
			}
			t.Logf("%d requests over %d stops", total, *faultRounds)
		})
	}
}

// ledgerService runs the fault suite's application, which answers with the request's id.
func ledgerService(t *testing.T, limit, most int) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := fmt.Sprintf("{name: LEDGER, value: %q}", filepath.Join(t.TempDir(), "ledger"))
	return service("victim", "ledger", limit, most, env) + fmt.Sprintf("          command: [%s, %s]\n", self, roleLedger)
}

// roamers are clients that choose an activator for each request.
type roamers struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu  sync.Mutex
	all []outcome // guarded by mu
}

func (h *house) roam(n int) *roamers {
	r := &roamers{stop: make(chan struct{})}
	for i := range n {
		r.wg.Go(func() { r.loop(h, i) })
	}
	return r
}

// loop sends requests without a pause: half of the clients keep their connections, half of them GET, half POST.
func (r *roamers) loop(h *house, i int) {
	kept := map[string]*wire{}
	defer func() {
		for _, w := range kept {
			w.hangUp()
		}
	}()
	random := rand.New(rand.NewPCG(uint64(i), 0))
	for n := 0; ; n++ {
		select {
		case <-r.stop:
			return
		default:
		}
		addrs := h.choices()
		for addr, w := range kept { // as a client does whose resolver has dropped an address
			if !slices.Contains(addrs, addr) {
				w.hangUp()
				delete(kept, addr)
			}
		}
		addr := addrs[random.IntN(len(addrs))]
		if kept[addr] == nil {
			kept[addr] = &wire{addr: addr, host: "victim.default.example.com", fresh: i%2 == 0}
		}
		o := kept[addr].do([]string{http.MethodGet, http.MethodPost}[i/2%2], fmt.Sprintf("%d-%d", i, n))
		r.mu.Lock()
		r.all = append(r.all, o)
		r.mu.Unlock()
	}
}

func (r *roamers) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

func (r *roamers) end() (failed []outcome) {
	close(r.stop)
	r.wg.Wait()
	for _, o := range r.all {
		if !o.whole() {
			failed = append(failed, o)
		}
	}
	return failed
}

// TestActivatorsSayWhereTheirMetricsAre: each address that is printed answers with that process's metrics, also after another
// process has taken the place.
func TestActivatorsSayWhereTheirMetricsAre(t *testing.T) {
	t.Parallel()
	h := start(t, service("hello", "hello", 0, 1, ""), func(o *Options) { o.Activators = 2 })
	defer h.close()
	found := regexp.MustCompile(`activator-\d: http://\S+/, metrics: (http://\S+/metrics)\n`).FindAllStringSubmatch(h.out.String(), -1)
	if len(found) != 2 || found[0][1] == found[1][1] {
		t.Fatalf("%q printed, want the addresses of two:\n%s", found, h.out)
	}
	h.await("both serve metrics", func() bool { return h.connected(found[0][1]) && h.connected(found[1][1]) })
	before := h.stack.activators.pid(1)
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.await("another process serves metrics there", func() bool {
		pid := h.stack.activators.pid(1)
		return pid != 0 && pid != before && h.connected(found[1][1])
	})
}

// connected reports whether the metrics of an activator process say that control reaches it.
func (h *house) connected(url string) bool {
	res, err := h.client.Get(url)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return err == nil && strings.Contains(string(text), "\nrouse_assign_connected 1\n")
}
