package sampleapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The headers by which a process tells its story. Times are Unix nanoseconds by its own clock.
const (
	HeaderPID            = "X-Pid"
	HeaderExec           = "X-Exec-Unix-Nano"   // when the process was started
	HeaderListen         = "X-Listen-Unix-Nano" // when listen(2) returned
	HeaderMaxConcurrency = "X-Max-Concurrency"  // the most requests at once so far
)

// StatsPath answers with Stats and is not counted in them.
const StatsPath = "/stats"

// Stats is what a process knows of itself.
type Stats struct {
	PID            int   `json:"pid"`
	Served         int64 `json:"served"`
	MaxConcurrency int64 `json:"max_concurrency"`
	ExecUnixNano   int64 `json:"exec_unix_nano"`
	ListenUnixNano int64 `json:"listen_unix_nano"`
}

// Names returns the names that Main knows.
func Names() []string { return []string{"hello", "event-display", "autoscale"} }

// Main runs the named application on $PORT (8080 when unset) until SIGTERM or SIGINT, and then until its requests are
// done. It takes no arguments. It fails when the name is unknown or the port cannot be listened on.
func Main(name string, args []string) error {
	began := time.Now() // before anything else: see execTime
	started, err := execTime(began)
	if err != nil {
		started = began // not Linux: nearly right
	}
	if len(args) > 0 {
		return fmt.Errorf("sample %s takes no arguments, got %q; it is configured by its environment", name, args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a, err := newApp(name, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	return a.run(ctx, started)
}

// app is one application with its counters. It is safe for concurrent use.
type app struct {
	name    string
	getenv  func(string) string
	work    http.Handler
	exec    atomic.Int64
	listen  atomic.Int64
	served  atomic.Int64
	present atomic.Int64
	most    atomic.Int64
}

func newApp(name string, getenv func(string) string, out io.Writer) (*app, error) {
	a := &app{name: name, getenv: getenv}
	switch name {
	case "hello":
		a.work = hello(getenv("TARGET"), getenv("K_REVISION"))
	case "autoscale":
		a.work = http.HandlerFunc(a.autoscale)
	case "event-display":
		a.work = newEventDisplay(out)
	default:
		return nil, fmt.Errorf("no sample is named %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return a, nil
}

// run listens and serves until ctx is done and the last request has been answered.
func (a *app) run(ctx context.Context, started time.Time) error {
	a.exec.Store(started.UnixNano())
	if err := a.delay(ctx, started); err != nil {
		return err
	}
	port := a.getenv("PORT")
	if port == "" {
		port = "8080"
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("", port))
	if err != nil {
		return fmt.Errorf("sample %s: PORT=%s: %w", a.name, port, err)
	}
	a.listen.Store(time.Now().UnixNano())
	return a.serve(ctx, ln)
}

func (a *app) serve(ctx context.Context, ln net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: a, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	idle := make(chan error, 1)
	go func() {
		<-ctx.Done()
		idle <- srv.Shutdown(context.Background()) // whoever stops us sets the limit, with SIGKILL
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("sample %s: %w", a.name, err)
	}
	return <-idle
}

// delay waits until STARTUP_DELAY_MS after the start of the process.
func (a *app) delay(ctx context.Context, started time.Time) error {
	s := a.getenv("STARTUP_DELAY_MS")
	if s == "" {
		return nil
	}
	ms, err := strconv.Atoi(s)
	if err != nil || ms < 0 {
		return fmt.Errorf("sample %s: STARTUP_DELAY_MS=%q is not a number of milliseconds", a.name, s)
	}
	pause(ctx, time.Until(started.Add(time.Duration(ms)*time.Millisecond)))
	return ctx.Err()
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ServeHTTP counts the request in and out and gives it to the application. Health probes are answered, not counted.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == StatsPath:
		a.writeStats(w)
		return
	case r.URL.Path == "/healthz" || strings.HasPrefix(r.UserAgent(), "kube-probe/"):
		w.WriteHeader(http.StatusOK)
		return
	}
	now := a.present.Add(1)
	defer func() { a.present.Add(-1); a.served.Add(1) }()
	for most := a.most.Load(); now > most && !a.most.CompareAndSwap(most, now); most = a.most.Load() {
	}
	h := w.Header()
	h.Set(HeaderPID, strconv.Itoa(os.Getpid()))
	h.Set(HeaderExec, strconv.FormatInt(a.exec.Load(), 10))
	h.Set(HeaderListen, strconv.FormatInt(a.listen.Load(), 10))
	h.Set(HeaderMaxConcurrency, strconv.FormatInt(a.most.Load(), 10))
	a.work.ServeHTTP(w, r)
}

func (a *app) stats() Stats {
	return Stats{
		PID: os.Getpid(), Served: a.served.Load(), MaxConcurrency: a.most.Load(),
		ExecUnixNano: a.exec.Load(), ListenUnixNano: a.listen.Load(),
	}
}

func (a *app) writeStats(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.stats()) // a client that left does not want to know
}

// hello greets the target, as the helloworld samples of Knative do.
func hello(target, revision string) http.Handler {
	if target == "" {
		target = "World"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if revision == "" {
			fmt.Fprintf(w, "Hello %s!\n", target)
			return
		}
		fmt.Fprintf(w, "Hello %s! (%s, process %d)\n", target, revision, os.Getpid())
	})
}
