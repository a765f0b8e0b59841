package forward_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// Example is a proxy with a limit: what a queue-proxy is at its core.
func Example() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Method, r.RequestURI)
	}))
	defer app.Close()
	pool := forward.NewPool(forward.PoolConfig{Addr: netip.MustParseAddrPort(app.Listener.Addr().String())})
	defer pool.Close()

	limiter := breaker.New(10, 100)
	srv, err := forward.NewServer(forward.Config{}, forward.HandlerFunc(func(x forward.Exchange) {
		if err := limiter.Acquire(x.Waiter()); err != nil {
			x.Fail(fault.QueueFull, "", time.Second)
			return
		}
		defer limiter.Release()
		x.SetTimeouts(forward.Timeouts{Total: time.Minute})
		if r := x.Forward(pool); r.Retryable { // nobody saw it: another pod could be tried here
			x.Fail(r.Cause, "", 0)
		}
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()

	res, err := http.Get("http://" + ln.Addr().String() + "/a%2Fb?c")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	fmt.Println(res.StatusCode, string(body))

	stop()
	fmt.Println(<-served, srv.Shutdown(context.Background()))
	// Output:
	// 200 GET /a%2Fb?c
	// <nil> <nil>
}
