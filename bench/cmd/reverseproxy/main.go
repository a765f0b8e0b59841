// Command reverseproxy is the contender that the standard library offers: net/http's server and httputil.ReverseProxy
// with an upstream pool large enough for the benchmark, and nothing else.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reverseproxy:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8012", "address to listen on")
	backend := flags.String("backend", "127.0.0.1:8080", "address to forward to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	target := &url.URL{Scheme: "http", Host: *backend}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true},
		ErrorLog:  slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError),
	}
	server := &http.Server{Addr: *listen, Handler: proxy}
	return server.ListenAndServe()
}
