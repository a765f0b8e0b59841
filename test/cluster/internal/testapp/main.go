// Command testapp is a container that does what it is told, and writes down what it is asked: in a journal that outlives it, one line per event,
// "UNIX-NANOSECONDS NAME EVENT". Tests read order and grace periods off those lines.
//
//	-name N           in the journal; default $NAME, else the host name
//	-journal FILE     appended to, one write per line; default: none
//	-listen ADDR      HTTP, default :8080; "" for none
//	-grpc ADDR        gRPC health service, NOT_SERVING while /ready is off
//	-startup D        time until it listens
//	-fail N           exit with this code at once, after -startup
//	-once FILE        make this file and exit with 0: an init container's work
//	-linger D         time between SIGTERM and exit; requests are served meanwhile
//
// HTTP: /ready, /live, /started answer 200 or 503, switched by /set?ready=0 and so on; /sleep?for=1s; /env?name=X; /exit?code=3;
// everything else, hooks for instance, answers 200 with the name. Every request but probes is written down, with its test ID. Answers say in
// Rouse-Test-In-Flight how many requests there were when theirs came, itself included, and in Rouse-Test-Proto how it came: HTTP/1.1 or h2c.
package main

import (
	"context"
	"errors"
	"flag"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

type app struct {
	name    string
	journal *os.File
	health  *health.Server

	ready, live, started atomic.Bool
	inFlight             atomic.Int64
}

// options are the flags.
type options struct {
	name, journal, listen, rpc, once string
	startup, linger                  time.Duration
	fail                             int
}

func parse() (o options) {
	flag.StringVar(&o.name, "name", os.Getenv("NAME"), "name in the journal")
	flag.StringVar(&o.journal, "journal", "", "file of events")
	flag.StringVar(&o.listen, "listen", ":8080", "address for HTTP")
	flag.StringVar(&o.rpc, "grpc", "", "address for gRPC's health service")
	flag.DurationVar(&o.startup, "startup", 0, "time until it listens")
	flag.IntVar(&o.fail, "fail", 0, "exit with this code")
	flag.DurationVar(&o.linger, "linger", 0, "time between SIGTERM and exit")
	flag.StringVar(&o.once, "once", "", "make this file and exit with 0: an init container's work")
	flag.Parse()
	if o.name == "" {
		o.name, _ = os.Hostname() // empty will do
	}
	return o
}

func main() {
	o := parse()
	a := app{name: o.name}
	a.open(o.journal)
	a.write("start")
	term := make(chan os.Signal, 2)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-time.After(o.startup):
	case <-term:
		a.exit(0)
	}
	if o.fail != 0 {
		a.exit(o.fail)
	}
	if o.once != "" {
		a.check(os.WriteFile(o.once, []byte(a.name), 0o644))
		a.exit(0)
	}
	a.serve(o.listen, o.rpc)
	<-term
	a.write("sigterm")
	<-time.After(o.linger)
	a.exit(0)
}

func (a *app) open(path string) {
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	a.check(err)
	a.journal = f
}

// write appends one line; the kernel keeps lines of several writers apart.
func (a *app) write(event string) {
	line := fmt.Sprintf("%d %s %s\n", time.Now().UnixNano(), a.name, event)
	_, _ = io.WriteString(os.Stdout, line) // for `kubectl logs`
	if a.journal != nil {
		_, err := a.journal.WriteString(line)
		a.check(err)
	}
}

func (a *app) check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(70)
	}
}

func (a *app) exit(code int) {
	a.write("exit " + strconv.Itoa(code))
	os.Exit(code)
}

func (a *app) serve(listen, rpc string) {
	a.ready.Store(true)
	a.live.Store(true)
	a.started.Store(true)
	if rpc != "" {
		l, err := net.Listen("tcp", rpc)
		a.check(err)
		a.health = health.NewServer()
		server := grpc.NewServer()
		healthpb.RegisterHealthServer(server, a.health)
		go func() { a.check(server.Serve(l)) }()
	}
	if listen != "" {
		l, err := net.Listen("tcp", listen)
		a.check(err)
		server := http.Server{Handler: a, Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { a.check(server.Serve(l)) }()
	}
	a.write("listening")
}

// ServeHTTP does what the path says.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ready":
		probe(w, &a.ready)
		return
	case "/live":
		probe(w, &a.live)
		return
	case "/started":
		probe(w, &a.started)
		return
	}
	w.Header().Set("Rouse-Test-In-Flight", strconv.FormatInt(a.inFlight.Add(1), 10))
	defer a.inFlight.Add(-1)
	w.Header().Set("Rouse-Test-Proto", r.Proto)
	a.write(strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Rouse-Test-Id")))
	if err := a.act(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if name := r.FormValue("name"); r.URL.Path == "/env" {
		fmt.Fprintln(w, os.Getenv(name))
		return
	}
	fmt.Fprintln(w, a.name)
}

func (a *app) act(r *http.Request) error {
	switch r.URL.Path {
	case "/set":
		return errors.Join(a.set(r, "ready", &a.ready), a.set(r, "live", &a.live), a.set(r, "started", &a.started))
	case "/sleep":
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			return err
		}
		return wait(r.Context(), d)
	case "/exit":
		code, err := strconv.Atoi(r.FormValue("code"))
		if err == nil {
			a.exit(code)
		}
		return err
	}
	return nil
}

// set switches one of the states, and gRPC's along with readiness.
func (a *app) set(r *http.Request, name string, state *atomic.Bool) error {
	v := r.FormValue(name)
	if v == "" {
		return nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	state.Store(on)
	if a.health != nil && name == "ready" {
		serving := healthpb.HealthCheckResponse_NOT_SERVING
		if on {
			serving = healthpb.HealthCheckResponse_SERVING
		}
		a.health.SetServingStatus("", serving)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func probe(w http.ResponseWriter, state *atomic.Bool) {
	if !state.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
