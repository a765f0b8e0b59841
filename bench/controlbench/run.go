package controlbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// Result is what a contender took for the work.
type Result struct {
	Contender   string  `json:"contender"`
	Revisions   int     `json:"revisions"`
	Pods        int     `json:"pods"`
	Seconds     float64 `json:"seconds"`
	CoreShare   float64 `json:"coreShare"`        // CPU seconds per second
	Reports     float64 `json:"reportsPerSecond"` // received
	Decisions   float64 `json:"decisionsPerSecond"`
	LagP50Ms    float64 `json:"lagP50Ms"` // of decisions, behind their time
	LagP99Ms    float64 `json:"lagP99Ms"`
	LagMaxMs    float64 `json:"lagMaxMs"`
	Bytes       float64 `json:"bytesPerRevision"`      // heap of the scaler itself
	BytesStream float64 `json:"bytesPerRevisionTotal"` // heap of everything: streams, ledger, pods too
	Applied     float64 `json:"appliedPerSecond"`      // changes of a number of pods
}

// target accepts everything at once.
type target struct{ applied atomic.Uint64 }

// Apply implements control.ScaleTarget.
func (t *target) Apply(context.Context, control.Request) error {
	t.applied.Add(1)
	return nil
}

// lag collects the lateness of decisions. The wheel is one goroutine, the reader comes after it.
type lag struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
	on   bool
	n    uint64
}

func newLag() *lag { return &lag{hist: hdrhistogram.New(1, 60_000_000, 3)} }

func (l *lag) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		l.n++
		_ = l.hist.RecordValue(max(0, d.Microseconds())) // out of range counts as the most
	}
}

// bench is one run of ours.
type bench struct {
	o       options
	book    endpoint.Book
	target  target
	lag     *lag
	loop    *control.Loop
	handler *statstream.Handler
	here    atomic.Uint64 // reports that were at hand
}

// runOurs measures our loop, with reports that come over streams or are at hand in the process.
func runOurs(ctx context.Context, o options, streams bool, stderr io.Writer) (Result, error) {
	b := &bench{o: o, lag: newLag()}
	b.publish()
	empty := heap()
	if err := b.begin(); err != nil {
		return Result{}, err
	}
	own := heap() - empty
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, addr, err := b.serve(ctx)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	var end func()
	if streams {
		end, err = startProducers(ctx, o, addr, stderr)
	} else {
		end = b.produceHere(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	defer end()
	res, err := b.measure(ctx)
	res.Contender = "rouse (streams)"
	if !streams {
		res.Contender = "rouse (memory)"
	}
	res.Bytes = float64(own) / float64(o.revisions)
	res.BytesStream = float64(heap()-empty) / float64(o.revisions)
	return res, err
}

// begin makes the loop with its revisions and the handler.
func (b *bench) begin() (err error) {
	if b.loop, err = control.New(control.Config{}, control.Deps{Pods: &b.book, Lag: b.lag.record}); err != nil {
		return err
	}
	if b.handler, err = statstream.NewHandler(statstream.HandlerConfig{Sink: b.loop}); err != nil {
		return err
	}
	return b.populate()
}

// publish makes the pods, all ready.
func (b *bench) publish() {
	for i := range b.o.revisions {
		id := revisionID(i)
		var es []endpoint.Endpoint
		for p := range b.o.pods {
			es = append(es, endpoint.Endpoint{
				Pod:   identity.Pod{UID: podUID(id.Name, p), Addr: netip.MustParseAddrPort("10.0.0.1:8012")},
				State: endpoint.Ready, Sidecar: true,
			})
		}
		b.book.Publish(id, es)
	}
}

// populate adds the revisions and lets each pod report once, so that memory is what it will be.
func (b *bench) populate() error {
	now := time.Now()
	for i := range b.o.revisions {
		id := revisionID(i)
		rev, faults := config.Resolve(config.Input{ID: id, Service: id.Name})
		if len(faults) > 0 {
			return config.Join(faults)
		}
		if err := b.loop.Add(rev, control.Target{Scale: &b.target, Replicas: b.o.pods}); err != nil {
			return err
		}
		for p := range b.o.pods {
			b.loop.Report(report(i, p, now))
		}
	}
	return nil
}

// serve runs the loop and the listener until stop is called.
func (b *bench) serve(ctx context.Context) (stop func(), addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	srv := &http.Server{Handler: b.handler, ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.loop.Run(ctx) }) // always nil
	wg.Go(func() { _ = srv.Serve(ln) })   // ends with the server
	return func() {
		limit, end := context.WithTimeout(context.Background(), time.Second)
		defer end()
		_ = b.handler.Close(limit) // the producers are gone already
		_ = srv.Close()            // only idle connections are left
		cancel()
		wg.Wait()
	}, ln.Addr().String(), nil
}

// startProducers runs this program again as the producers; end kills and waits for it.
func startProducers(ctx context.Context, o options, addr string, stderr io.Writer) (end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append(commandPrefix(), o.childArgs(addr)...)...)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the producers: %w", err)
	}
	return func() {
		_ = cmd.Process.Kill() // gone already when it fails
		_ = cmd.Wait()         // killed is what we want
	}, nil
}

// produceHere reports for all pods once per second, a hundredth of them at a time, without a stream.
func (b *bench) produceHere(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	const parts = 100
	templates := make([]metrics.Message, b.o.revisions*b.o.pods)
	for n := range templates {
		templates[n] = report(n/b.o.pods, n%b.o.pods, time.Now())
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / parts)
		defer tick.Stop()
		for part := 0; ctx.Err() == nil; part = (part + 1) % parts {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				b.reportPart(templates, part, parts, now)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (b *bench) reportPart(templates []metrics.Message, part, parts int, now time.Time) {
	for n := part; n < len(templates); n += parts {
		m := &templates[n]
		m.Stat.AverageConcurrency = load(n/b.o.pods, now)
		m.Stat.RequestCount = 10 * m.Stat.AverageConcurrency
		b.loop.Report(*m)
		b.here.Add(1)
	}
}

// reports is how many have arrived.
func (b *bench) reports() uint64 { return b.handler.Counts().Reports + b.here.Load() }

// commandPrefix is what the arguments of this process begin with before the flags of the bench: its subcommands.
func commandPrefix() []string {
	var prefix []string
	for _, a := range os.Args[1:] {
		if len(a) > 0 && a[0] == '-' {
			break
		}
		prefix = append(prefix, a)
	}
	return prefix
}

// measure waits for the producers and takes the difference of two readings.
func (b *bench) measure(ctx context.Context) (Result, error) {
	want := float64(b.o.revisions * b.o.pods)
	if err := wait(ctx, b.o.warmup); err != nil {
		return Result{}, err
	}
	reports, applied, cpu, at := b.reports(), b.target.applied.Load(), cpuTime(), time.Now()
	b.lag.mu.Lock()
	b.lag.on = true
	b.lag.mu.Unlock()
	if err := wait(ctx, b.o.duration); err != nil {
		return Result{}, err
	}
	seconds := time.Since(at).Seconds()
	used := (cpuTime() - cpu).Seconds()
	rate := float64(b.reports()-reports) / seconds
	b.lag.mu.Lock()
	defer b.lag.mu.Unlock()
	b.lag.on = false
	res := Result{
		Revisions: b.o.revisions, Pods: b.o.pods, Seconds: seconds, CoreShare: used / seconds,
		Reports: rate, Decisions: float64(b.lag.n) / seconds, Applied: float64(b.target.applied.Load()-applied) / seconds,
		LagP50Ms: quantile(b.lag.hist, 50), LagP99Ms: quantile(b.lag.hist, 99), LagMaxMs: quantile(b.lag.hist, 100),
	}
	if rate < 0.9*want {
		return res, fmt.Errorf("only %.0f of %.0f reports per second arrived: the figures mean nothing on so busy a machine", rate, want)
	}
	return res, nil
}

func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	return float64(h.ValueAtQuantile(q)) / 1000
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.Join(errors.New("interrupted"), ctx.Err())
	case <-time.After(d):
		return nil
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
