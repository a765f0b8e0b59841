//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof" // profiles of a contender, on PPROF
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/forward"
)

// Every design has the features that cost something on each request: a limit with a queue, an in-flight count, a
// whole-request timeout, removal of hop-by-hop headers and X-Forwarded-For.
const (
	limit   = 2048
	queue   = 10 * limit
	timeout = 300 * time.Second
)

func serve(name, listen, up string) error {
	if addr := os.Getenv("PPROF"); addr != "" {
		go func() { _ = http.ListenAndServe(addr, nil) }()
	}
	ln, err := net.Listen("tcp4", listen)
	if err != nil {
		return err
	}
	switch name {
	case "onepass":
		return serveOnePass(ln, up)
	case "parsers":
		return serveParsers(ln, up)
	case "fasthttp":
		return serveFastHTTP(ln, up)
	}
	return fmt.Errorf("%s: no such design", name)
}

// serveOnePass is the engine as it is: its scanner, connection loop and pool.
func serveOnePass(ln net.Listener, up string) error {
	to := forward.NewPool(forward.PoolConfig{Addr: netip.MustParseAddrPort(up)})
	limiter := breaker.New(limit, queue)
	var requests atomic.Int64
	srv, err := forward.NewServer(forward.Config{
		Forwarding: forward.Forwarding{XForwarded: true},
	}, forward.HandlerFunc(func(x forward.Exchange) {
		requests.Add(1)
		if err := limiter.Acquire(x.Waiter()); err != nil {
			x.Reply(503, "", "")
			return
		}
		x.SetTimeouts(forward.Timeouts{Total: timeout})
		x.Forward(to)
		limiter.Release()
	}))
	if err != nil {
		return err
	}
	return srv.Serve(context.Background(), ln)
}
