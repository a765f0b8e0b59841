package up

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// faultSeed repeats a run: faults come at moments that follow from it. faultRounds looks longer.
var (
	faultSeed   = flag.Uint64("fault-seed", 0, "seed of the fault suite's moments and victims; 0 takes a new one")
	faultRounds = flag.Int("fault-rounds", 20, "how often the fault suite lets each fault happen")
)

const faultClients = 8

// disaster is something that befalls one pod.
type disaster struct {
	name string
	// strike does it to the pod; it returns when it is done, not when it is over.
	strike func(h *house, uid string) error
	// graceful ones may fail no request, the others only those that had been sent to the pod.
	graceful bool
	pods     int    // how many stand at the beginning: what crashes comes back later and later
	told     string // what the operator is told each time, "" for nothing
}

var (
	stopPod = disaster{"stop of a pod", func(h *house, uid string) error {
		// One more first, so that there is always somebody to take over, as a rolling update does.
		return errors.Join(h.scale(3), h.ready("victim", 3), h.scale(2, uid))
	}, true, 2, ""}
	stopProxy = disaster{"SIGTERM of a queue-proxy alone", func(_ *house, uid string) error {
		return send("SERVING_POD="+uid, syscall.SIGTERM)
	}, true, 2, "its queue-proxy was told to stop"}
	killPod = disaster{"kill -9 of a pod", func(_ *house, uid string) error {
		return send("ROUSE_POD="+uid, syscall.SIGKILL)
	}, false, 6, "signal: killed"}
	killProxy = disaster{"kill -9 of a queue-proxy", func(_ *house, uid string) error {
		return send("SERVING_POD="+uid, syscall.SIGKILL)
	}, false, 6, "queue-proxy: signal: killed"}
)

// errGone says that the process has ended already; the book may say so a moment later.
var errGone = errors.New("no such process")

func send(entry string, signal syscall.Signal) error {
	pid := processOf(entry)
	if pid == 0 {
		return fmt.Errorf("%w: %s", errGone, entry)
	}
	return syscall.Kill(pid, signal)
}

// siege is one run of a disaster over and over, under load.
type siege struct {
	disaster
	mode    string // of sidecars
	fronts  int    // activator processes; 0 for the one inside rouse up
	most    int    // rounds
	change  func(*Options)
	outlook func(outcomes []outcome) bool // asked after each round; true ends the run early
}

func (s siege) String() string {
	text := s.name + ", sidecars " + s.mode
	if s.fronts > 0 {
		text += fmt.Sprintf(", %d activators", s.fronts)
	}
	return text
}

// lay runs the siege and returns every outcome, with what the applications saw.
func (s siege) lay(t *testing.T) (all []outcome, ledger map[string]int) {
	t.Helper()
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -fault-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger")
	m := service("victim", "ledger", 10, 0, fmt.Sprintf("{name: LEDGER, value: %q}", path)) + fmt.Sprintf("          command: [%s, %s]\n", self, roleLedger)
	h := start(t, m, func(o *Options) {
		o.Sidecars, o.Activators, o.Set = s.mode, s.fronts, []string{fmt.Sprintf("min-scale=%d", s.pods)}
		if s.change != nil {
			s.change(o)
		}
	})
	c := h.clients(faultClients, "victim")
	struck := map[string]bool{}
	rounds := 0
	for rounds < s.most && (s.outlook == nil || !s.outlook(c.outcomes())) {
		switch err := s.strike(h, h.victim(c, random, struck)); {
		case err == nil:
			rounds++
		case !errors.Is(err, errGone):
			t.Fatal(err)
		}
	}
	h.settle(c, random)
	if s.told != "" && s.change == nil {
		h.await(fmt.Sprintf("%q was said %d times", s.told, rounds), func() bool { return strings.Count(h.out.String(), s.told) >= rounds })
	}
	all = c.end()
	h.stop()
	if err := <-h.ended; err != nil && s.change == nil {
		t.Errorf("rouse up ended with %v\n%s", err, h.out)
	}
	t.Logf("%s, %d times", s, rounds)
	return all, readLedger(t, path)
}

// victim lets some requests pass, a random number of them, and picks a pod that takes requests and was not struck
// before: what a fault has done may take a moment to be seen.
func (h *house) victim(c *clients, random *rand.Rand, struck map[string]bool) string {
	h.t.Helper()
	h.settle(c, random)
	id, err := h.stack.fleet.current("victim")
	if err != nil {
		h.t.Fatal(err)
	}
	var ready []string
	h.await("a pod that was not struck is ready", func() bool {
		for _, e := range h.stack.book.Snapshot(id).Endpoints {
			if e.State == endpoint.Ready && !struck[e.Pod.UID] {
				ready = append(ready, e.Pod.UID)
			}
		}
		return len(ready) > 0
	})
	uid := ready[random.IntN(len(ready))]
	struck[uid] = true
	return uid
}

// settle waits for a random number of answers, with at least two pods ready.
func (h *house) settle(c *clients, random *rand.Rand) {
	h.t.Helper()
	until := c.count() + 20 + random.IntN(60)
	h.await("the clients go on", func() bool { return c.count() >= until })
	if err := h.ready("victim", 2); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) ready(name string, pods int) error {
	h.t.Helper()
	h.await(fmt.Sprintf("%d pods are ready", pods), func() bool {
		ready, _ := h.pods(name)
		return ready >= pods
	})
	return nil
}

// scale asks for pods past the control loop, as an operator does who deletes a pod.
func (h *house) scale(n int, victims ...string) error {
	id, err := h.stack.fleet.current("victim")
	if err != nil {
		return err
	}
	return h.stack.runner.Apply(context.Background(), id, n, victims)
}

// violations are the outcomes that a disaster does not excuse. Nothing but a whole answer is right for a graceful one.
// A killed pod takes with it what had been sent to it: those end by 502 with the cause that says so, or are cut inside
// the answer. One that was certainly not sent must have gone elsewhere, none may hang, and no application may see a
// request twice.
func violations(d disaster, all []outcome, ledger map[string]int) (found []string) {
	failed := 0
	for i := range all {
		o := &all[i]
		if n := ledger[o.id]; n > 1 {
			found = append(found, fmt.Sprintf("applications saw %s %d times", o.id, n))
		}
		switch {
		case o.whole():
		case d.graceful || !lostWithItsPod(o):
			found = append(found, o.String())
		default:
			failed++
		}
	}
	// At each kill at most all clients have a request in that one pod.
	if most := *faultRounds * faultClients; failed > most {
		found = append(found, fmt.Sprintf("%d requests failed, more than could have been in the pods (%d)", failed, most))
	}
	return found
}

func lostWithItsPod(o *outcome) bool {
	cut := o.status == http.StatusOK && errors.Is(o.err, io.ErrUnexpectedEOF)
	return cut || o.err == nil && o.status == fault.Of(fault.UpstreamReset).Status && strings.HasPrefix(o.body, fault.UpstreamReset.Error())
}

// sieges are what the promise covers, by disaster and mode of sidecars.
func sieges() (all []siege) {
	for _, mode := range []string{"none", "inprocess", "process"} {
		all = append(all, siege{disaster: stopPod, mode: mode}, siege{disaster: killPod, mode: mode})
	}
	all = append(all, siege{disaster: stopProxy, mode: "process"}, siege{disaster: killProxy, mode: "process"})
	for _, d := range []disaster{stopPod, stopProxy, killPod, killProxy} {
		all = append(all, siege{disaster: d, mode: "process", fronts: 2})
	}
	return all
}

// TestFaults holds the promise: what ends in order loses nothing, what is killed loses only what it had.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, s := range sieges() {
		s.most = *faultRounds
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			all, ledger := s.lay(t)
			for _, v := range violations(s.disaster, all, ledger) {
				t.Error(v)
			}
			tally(t, all)
		})
	}
}
