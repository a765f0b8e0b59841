//go:build linux

package parked

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/bench/load"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

var revision = identity.Revision{Namespace: "bench", Name: "parked-00001", UID: "1"}

// always routes everything to the one revision.
type always struct{}

func (always) Route(forward.Exchange) (activator.Route, bool) {
	return activator.Route{Revision: revision.Key()}, true
}

// away is control that hears nothing.
type away struct{}

func (away) Report(metrics.Message) {}

// account is what the server says of itself.
type account struct {
	Parked       int
	Heap, Stacks int64
}

// serve is the activator's process: it takes orders by lines, and ends with its input.
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := activator.New(activator.Config{QueueTotal: 1_000_000}, activator.Deps{Router: always{}, Stats: away{},
		NewPool: func(e endpoint.Endpoint) *forward.Pool {
			return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
		}})
	if err != nil {
		return err
	}
	a.Put(revision, activator.Settings{ContainerConcurrency: 5, QueueLimit: 1_000_000, QueueDeadline: time.Hour,
		Timeouts: forward.Timeouts{Total: 5 * time.Minute}})
	front, err := forward.NewServer(forward.Config{Forwarding: forward.Forwarding{XForwarded: true}}, a.Handler(false))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv(roleEnv + "_LISTENERS"))
	if err != nil {
		return err
	}
	var addrs []string
	for i := range n {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+1))
		if err != nil {
			return err
		}
		addrs = append(addrs, ln.Addr().String())
		go func() { _ = front.Serve(ctx, ln) }()
	}
	go func() { _ = a.Run(ctx) }()
	fmt.Fprintln(out, strings.Join(addrs, ","))
	orders := bufio.NewScanner(in)
	for orders.Scan() {
		fmt.Fprintln(out, obey(ctx, a, orders.Text()))
	}
	return nil
}

func obey(ctx context.Context, a *activator.Activator, order string) string {
	verb, arg, _ := strings.Cut(order, " ")
	switch verb {
	case "account":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b, _ := json.Marshal(account{int(a.Parked()), int64(m.HeapInuse), int64(m.StackInuse)})
		return string(b)
	case "profile":
		return outcome(profile(arg))
	case "pods":
		return outcome(pods(ctx, a))
	}
	return "no such order: " + order
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func profile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GC() // the profile is of what was live at the last collection
	return pprof.WriteHeapProfile(f)
}

// pods lets ten pods come, which are one listener.
func pods(ctx context.Context, a *activator.Activator) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	app, err := forward.NewServer(forward.Config{}, forward.HandlerFunc(func(x forward.Exchange) { x.Reply(200, "text/plain", "ok") }))
	if err != nil {
		return err
	}
	go func() { _ = app.Serve(ctx, ln) }()
	var eps []endpoint.Endpoint
	for i := range 10 {
		eps = append(eps, endpoint.Endpoint{State: endpoint.Ready,
			Pod: identity.Pod{UID: fmt.Sprint("pod-", i), Addr: netip.MustParseAddrPort(ln.Addr().String())}})
	}
	a.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: revision, Version: 1, Endpoints: eps}})
	return nil
}

// hold is a client's process: it parks its requests, and when asked counts their answers.
func hold(in io.Reader, out io.Writer) error {
	var job job
	orders := bufio.NewScanner(in)
	if !orders.Scan() {
		return nil
	}
	if err := json.Unmarshal(orders.Bytes(), &job); err != nil {
		return err
	}
	var all []*load.Held
	defer func() {
		for _, h := range all {
			h.Close()
		}
	}()
	for at := job.First; at < job.First+job.N; {
		n := min(job.First+job.N, (at/perAddress+1)*perAddress) - at
		h, err := load.Park(job.Addrs[at/perAddress], load.Get("/"), n, nil)
		if err != nil {
			return err
		}
		all = append(all, h)
		at += n
	}
	fmt.Fprintln(out, "parked")
	if !orders.Scan() {
		return nil
	}
	good := 0
	for _, h := range all {
		good += h.Collect(time.Now().Add(time.Minute))
	}
	fmt.Fprintln(out, good)
	return nil
}

// job is what a client is to do: the requests from First on, over all clients.
type job struct {
	Addrs    []netip.AddrPort
	First, N int
}

// perAddress is how many connections one listening address gets: fewer than there are ephemeral ports.
const perAddress = 20_000

func listeners(requests int) int { return (requests + perAddress - 1) / perAddress }
