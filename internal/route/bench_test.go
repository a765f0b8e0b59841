package route

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// benchTable has a thousand services, a split, paths and wildcards.
func benchTable(t testing.TB) *Table {
	cfg := Config{Answers: []Answer{{Name: "bots", Mode: WhileCold, Status: 503, Headers: []HeaderMatch{{Name: "User-Agent", Kind: Contains, Value: "bot"}}}}}
	for i := range 1000 {
		name := fmt.Sprintf("svc-%d", i)
		cfg.Routes = append(cfg.Routes, Domains{}.Routes("default", name, false, []Share{{Revision: rev(name), Percent: 100}})...)
	}
	cfg.Routes = append(cfg.Routes, Domains{}.Routes("default", "split", false, []Share{{rev("old"), "", 80}, {rev("new"), "", 20}})...)
	cfg.Routes = append(cfg.Routes, to("api", "/api/v1", "svc-7.default.example.com"), to("wild", "", "*.wild.test"), to("six", "", "2001:db8::1"))
	return build(t, cfg)
}

func BenchmarkLookup(b *testing.B) {
	table := benchTable(b)
	agent := []byte("curl/8.5.0")
	header := func(string) []byte { return agent }
	for _, bc := range []struct{ name, host, path string }{
		{"host", "svc-9.default.example.com", "/things/1?x=1"},
		{"host-with-port-and-case", "Svc-9.default.example.com:8080", "/things/1?x=1"},
		{"split", "split.default.example.com", "/things/1?x=1"},
		{"path", "svc-7.default.example.com", "/api/v1/things/1"},
		{"wildcard", "a.b.wild.test", "/"},
		{"none", "nobody.example.org", "/"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			host, path := []byte(bc.host), []byte(bc.path)
			b.ReportAllocs()
			for b.Loop() {
				table.Next(host, path, header)
			}
		})
	}
}

// BenchmarkServeMux is the rival: the standard library's table with the same thousand hosts.
func BenchmarkServeMux(b *testing.B) {
	mux := http.NewServeMux()
	for i := range 1000 {
		for _, host := range (Domains{}).Hosts("default", fmt.Sprintf("svc-%d", i), false) {
			mux.Handle(host+"/", http.NotFoundHandler())
		}
	}
	req := &http.Request{Method: "GET", Host: "svc-9.default.example.com", URL: &url.URL{Path: "/things/1"}}
	b.ReportAllocs()
	for b.Loop() {
		mux.Handler(req)
	}
}

// BenchmarkBuild is what a change of one of a thousand services costs.
func BenchmarkBuild(b *testing.B) {
	var cfg Config
	for i := range 1000 {
		name := fmt.Sprintf("svc-%d", i)
		cfg.Routes = append(cfg.Routes, Domains{}.Routes("default", name, false, []Share{{Revision: rev(name), Percent: 100}})...)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(cfg, nil); err != nil {
			b.Fatal(err)
		}
	}
}
