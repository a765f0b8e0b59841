//go:build linux

package main

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/valyala/fasthttp"
)

// hopByHop are the fields that a proxy must not pass on.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Upgrade"}

// serveFastHTTP is fasthttp's Server with its HostClient. Field names are left as they are where it allows that.
// Responses are buffered: its streaming makes tens of kilobytes of garbage per response.
func serveFastHTTP(ln net.Listener, up string) error {
	client := &fasthttp.HostClient{
		Addr: up, MaxConns: 100_000, MaxIdleConnDuration: 90 * time.Second,
		NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
		RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}
	limiter := breaker.New(limit, queue)
	var requests atomic.Int64
	handler := func(ctx *fasthttp.RequestCtx) {
		requests.Add(1)
		w, _ := ctx.UserValue("waiter").(*breaker.Waiter)
		if w == nil {
			w = breaker.NewWaiter()
		}
		if limiter.Acquire(w) != nil {
			ctx.SetStatusCode(503)
			return
		}
		defer limiter.Release()
		req, resp := &ctx.Request, &ctx.Response
		for _, name := range hopByHop {
			req.Header.Del(name)
		}
		req.Header.Add("X-Forwarded-For", ctx.RemoteIP().String())
		req.SetTimeout(timeout)
		if err := client.Do(req, resp); err != nil {
			resp.Reset()
			resp.SetStatusCode(502)
		}
		for _, name := range hopByHop {
			resp.Header.Del(name)
		}
	}
	s := &fasthttp.Server{
		Handler: handler, Concurrency: 1 << 20, NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
		DisableHeaderNamesNormalizing: true, StreamRequestBody: true,
	}
	return s.Serve(ln)
}
