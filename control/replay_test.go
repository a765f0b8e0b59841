package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// sequence is one recorded run of the original's decider: see the repository's testdata/cases.
type sequence struct {
	ID        string `json:"id"`
	InitReady int    `json:"init_ready_pods"`
	InitPanic *struct {
		At      float64 `json:"panic_time_s"`
		MaxPods int     `json:"max_panic_pods"`
	} `json:"init_panic"`
	Spec  sequenceSpec   `json:"spec"`
	Steps []sequenceStep `json:"steps"`
}

type sequenceSpec struct {
	Target          float64 `json:"target_value"`
	Total           float64 `json:"total_value"`
	BurstCapacity   float64 `json:"target_burst_capacity"`
	PanicThreshold  float64 `json:"panic_threshold"`
	UpRate          float64 `json:"max_scale_up_rate"`
	DownRate        float64 `json:"max_scale_down_rate"`
	StableWindow    float64 `json:"stable_window_s"`
	ScaleDownDelay  float64 `json:"scale_down_delay_s"`
	ActivationScale int     `json:"activation_scale"`
	Reachable       bool    `json:"reachable"`
}

type sequenceStep struct {
	At         float64         `json:"t_s"`
	Ready      int             `json:"ready_pods"`
	Stable     float64         `json:"stable"`
	Panic      float64         `json:"panic"`
	NoData     bool            `json:"no_data"`
	SpecUpdate json.RawMessage `json:"spec_update"`
	Want       struct {
		Valid   bool `json:"valid"`
		Desired int  `json:"desired"`
		EBC     int  `json:"ebc"`
		InPanic bool `json:"in_panic"`
		MaxPods int  `json:"max_panic_pods"`
	} `json:"want"`
}

// policy has a panic window of one second, so that the two averages can be set independently: the panic average is the
// newest bucket, the stable average follows from the bucket before it. The metric is requests per second, because a
// report of concurrency at zero pods would rightly cause a decision that the recording does not have.
func (s *sequenceSpec) policy() kpa.Policy {
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{{Metric: kpa.RPS, Value: s.Target, Total: s.Total}}
	p.TargetBurstCapacity = s.BurstCapacity
	p.PanicThreshold = s.PanicThreshold
	p.MaxScaleUpRate, p.MaxScaleDownRate = s.UpRate, s.DownRate
	p.StableWindow = time.Duration(max(s.StableWindow, 6)) * time.Second // 0 where the recording never panics
	p.PanicWindow = time.Second
	p.ScaleDownDelay = time.Duration(s.ScaleDownDelay) * time.Second
	p.ActivationScale = s.ActivationScale
	return p
}

// feed computes which loads make a window show wanted averages.
type feed struct {
	window      int
	values      map[int]float64 // by second
	first, last int
	any         bool
}

func (f *feed) put(second int, v float64) {
	if f.fresh(second) {
		f.values, f.first, f.any = map[int]float64{}, second, true
	}
	f.last = second
	f.values[second] += v
}

// fresh says that a sample in that second begins a new history.
func (f *feed) fresh(second int) bool { return !f.any || second-f.last >= f.window }

// silent says whether a window has no data at a time when it was not fed. Where it has, the recorded decision without
// data can't be brought about, and need not be: it changes nothing. With an unlimited burst capacity silence means zero,
// in the original's collector too.
func (f *feed) silent(at time.Time, burstCapacity float64) bool {
	return burstCapacity != -1 && (!f.any || int(at.Unix())-f.last > f.window)
}

// plan returns what to add in the second before, if anything, and in the second of a decision; ok is false when no
// load does it. A history of one bucket is left at that, so that both averages can still change within the second.
func (f *feed) plan(before, second int, stable, panicking float64) (addBefore, addNow float64, both, ok bool) {
	if f.fresh(second) && stable == panicking {
		return 0, panicking, false, true
	}
	g := feed{window: f.window, values: map[int]float64{}, first: f.first, last: f.last, any: f.any}
	for k, v := range f.values {
		g.values[k] = v
	}
	if f.any && second == f.last {
		addNow = panicking - f.values[second]
		g.put(second, addNow)
		return 0, addNow, false, math.Abs(g.average(second)-stable) < 5e-7
	}
	g.put(before, 0)
	g.put(second, panicking)
	divisor := float64(min(second-g.first+1, g.window))
	addBefore = (stable - g.average(second)) * divisor
	return addBefore, panicking, true, true
}

func (f *feed) average(second int) float64 {
	sum := 0.0
	for k, v := range f.values {
		if k > second-f.window {
			sum += v
		}
	}
	return sum / float64(min(second-f.first+1, f.window))
}

// replay runs one sequence against a loop that is fed over a stream; it returns how many decisions it compared, and
// whether the whole sequence could be brought about by load. With restarts, a successor that knows the snapshot of its
// predecessor makes every decision.
func replay(t *testing.T, k sequence, restarts bool) (decisions int, whole bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Period: 1000 * time.Hour, Slots: 1}, nil)
		send, stop := overStream(t, w.loop)
		defer stop()
		id := w.add(revisionOf(t, "hello-1"))
		r := w.loop.find(id.Key())
		// The recording's t = 0. There is a second before it to be filled, and it is an even one, as there: the slots of
		// the scale-down delay are two seconds wide.
		began := w.began.Add(2 * time.Second)
		r.setPolicy(k.Spec.policy())
		r.state = kpa.NewState(r.policy, k.InitReady, began)
		if k.InitPanic != nil {
			r.state.PanicSince, r.state.MaxPanicPods = began.Add(seconds(k.InitPanic.At)), k.InitPanic.MaxPods
		}
		f := feed{window: int(r.policy.StableWindow / time.Second)}
		for i, step := range k.Steps {
			if step.SpecUpdate != nil {
				if err := json.Unmarshal(step.SpecUpdate, &k.Spec); err != nil {
					t.Fatal(err)
				}
				r.setPolicy(k.Spec.policy())
			}
			w.reach(id, k.Spec.Reachable)
			w.setReady(id, step.Ready)
			if step.NoData && !f.silent(began.Add(seconds(step.At)), k.Spec.BurstCapacity) {
				continue
			}
			if !w.feedTo(&f, began.Add(seconds(step.At)), step, send) {
				return
			}
			if restarts {
				r = w.succeed(r)
			}
			if err := w.loop.Decide(id); err != nil {
				t.Fatal(err)
			}
			decisions++
			compare(t, fmt.Sprintf("%s step %d at %g s", k.ID, i, step.At), step, r.last)
		}
		whole = true
	})
	return decisions, whole
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

func compare(t *testing.T, where string, step sequenceStep, d kpa.Decision) {
	t.Helper()
	w := step.Want
	ok := d.Valid == w.Valid && d.Panic == w.InPanic && d.MaxPanicPods == w.MaxPods
	if w.Valid {
		ok = ok && d.Raw == w.Desired && d.ExcessBurstCapacity == w.EBC
	}
	if !ok {
		t.Errorf("%s: valid %v, %d pods, excess %d, panic %v %d, want %+v; %+v", where, d.Valid, d.Raw, d.ExcessBurstCapacity,
			d.Panic, d.MaxPanicPods, w, d.Reasons)
	}
}

func (r *revision) setPolicy(p kpa.Policy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy = &p
	r.fitWindows()
}

func (w *world) reach(id identity.Revision, reachable bool) {
	to := kpa.Unreachable
	if reachable {
		to = kpa.Reachable
	}
	if err := w.loop.SetReachability(id, to); err != nil {
		w.t.Fatal(err)
	}
}

// setReady makes that many pods ready. Every pod has a sidecar.
func (w *world) setReady(id identity.Revision, n int) {
	have := w.pods(id)
	var come []endpoint.Endpoint
	for i := len(have); i < n; i++ {
		uid := "pod-" + strconv.Itoa(i)
		have = append(have, uid)
		come = append(come, endpoint.Endpoint{
			Pod: identity.Pod{UID: uid, Addr: netip.MustParseAddrPort("127.0.0.1:1")}, State: endpoint.Ready, Sidecar: true,
		})
	}
	gone := have[n:]
	w.live[id] = have[:n:n]
	if len(come)+len(gone) > 0 {
		w.book.Publish(id, come, gone...)
	}
}

// feedTo lets time pass until the step and sends the load that makes the window show its averages.
func (w *world) feedTo(f *feed, at time.Time, step sequenceStep, send func(float64)) bool {
	second := int(at.Unix())
	if step.NoData {
		time.Sleep(time.Until(at))
		return true
	}
	before := second - 1
	addBefore, addNow, both, ok := f.plan(before, second, step.Stable, step.Panic)
	if !ok {
		return false
	}
	if both {
		// In the second before, but not before now.
		if d := time.Until(time.Unix(int64(before), 0)); d > 0 {
			time.Sleep(d)
		}
		send(addBefore)
		f.put(before, addBefore)
	}
	time.Sleep(time.Until(at))
	send(addNow)
	f.put(second, addNow)
	return true
}

// overStream connects a producer to the loop through the stats stream, over connections in memory.
func overStream(t *testing.T, loop *Loop) (send func(rps float64), stop func()) {
	t.Helper()
	h, err := statstream.NewHandler(statstream.HandlerConfig{Sink: loop})
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn)
	srv := &http.Server{Handler: h}
	served := make(chan error, 1)
	ln := &memory{conns: conns, done: make(chan struct{})}
	go func() { served <- srv.Serve(ln) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		conns <- far
		return near, nil
	}}
	c, err := statstream.NewClient(statstream.ClientConfig{URL: "ws://control", Producer: "pod-0/1", HTTP: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	synctest.Wait()
	send = func(rps float64) {
		s := metrics.Stat{PodName: "pod-0", RequestCount: rps}
		if rps < 0 { // a difference: what an activator has reported already
			s.RequestCount, s.ProxiedRequestCount = 0, -rps
		}
		c.Report(metrics.Message{Namespace: "default", Name: "hello-1", Stat: s})
		synctest.Wait()
	}
	return send, func() {
		cancel()
		if err := errors.Join(<-ran, h.Close(context.Background()), srv.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}

// memory is a listener whose connections are pipes.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { close(m.done); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// TestLoopReproducesTheRecordedDecisions feeds the loop over the stats stream, in virtual time, with load that makes its
// windows show the recorded averages, and compares every decision. What no load can bring about (two averages that
// contradict each other within one second) ends a sequence early, and recorded failures of the collector within a window
// that has data are left out; what was compared is counted.
func TestLoopReproducesTheRecordedDecisions(t *testing.T) { replayAll(t, false) }

// TestRestartsReproduceTheRecordedDecisions does the same with a restart before each of them: a snapshot holds
// everything that a decision depends on. It asks for more than one replica or one application of a rate: for none.
func TestRestartsReproduceTheRecordedDecisions(t *testing.T) { replayAll(t, true) }

func replayAll(t *testing.T, restarts bool) {
	t.Helper()
	dir := os.Getenv("ROUSE_CASES")
	if dir == "" {
		dir = filepath.Join("..", "testdata", "cases")
	}
	for file, least := range map[string]int{"kpa_cases.json": 50, "kpa_random.json": 1000} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if os.Getenv("ROUSE_CASES") != "" {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			least = 1
		}
		if err != nil {
			t.Fatal(err)
		}
		var cases map[string]json.RawMessage
		if err := json.Unmarshal(raw, &cases); err != nil {
			t.Fatal(err)
		}
		sequences, whole, decisions, all := 0, 0, 0, 0
		for _, group := range []string{"decide", "fuzz"} {
			if cases[group] == nil {
				continue
			}
			var ks []sequence
			if err := json.Unmarshal(cases[group], &ks); err != nil {
				t.Fatal(err)
			}
			for _, k := range ks {
				n, complete := replay(t, k, restarts)
				sequences++
				decisions += n
				all += len(k.Steps)
				if complete {
					whole++
				}
			}
		}
		t.Logf("%s: %d of %d decisions over the stream, %d of %d sequences to the end", file, decisions, all, whole, sequences)
		if decisions < least {
			t.Errorf("%s: only %d decisions could be fed, want at least %d", file, decisions, least)
		}
	}
}
