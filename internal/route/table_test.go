package route

import (
	"slices"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/identity"
)

func rev(name string) identity.Revision { return identity.Revision{Namespace: "default", Name: name} }

// to is a route to one revision, which also names the route.
func to(name, path string, hosts ...string) Route {
	return Route{Name: name, Hosts: hosts, Path: path, Backends: []Backend{{Revision: rev(name), Weight: 1}}}
}

func with(r Route, hs ...HeaderMatch) Route { r.Headers = hs; return r }

// headers are a request's headers, by canonical name.
type headers map[string]string

func (h headers) get(name string) []byte {
	for k, v := range h {
		if strings.EqualFold(k, name) {
			return []byte(v)
		}
	}
	return nil
}

func build(t testing.TB, cfg Config) *Table {
	t.Helper()
	table, err := Build(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestLookup(t *testing.T) {
	table := build(t, Config{Routes: []Route{
		to("exact", "", "hello.default.example.com", "Hello.Default"),
		to("api", "/api", "hello.default.example.com"),
		to("api-v2", "/api/v2/", "hello.default.example.com"),
		with(to("beta", "/api", "hello.default.example.com"), HeaderMatch{Name: "X-Beta", Value: "yes"}),
		with(to("beta-eu", "/api", "hello.default.example.com"), HeaderMatch{Name: "X-Beta", Value: "yes"}, HeaderMatch{Name: "X-Region", Kind: Prefix, Value: "eu-"}),
		to("wild", "", "*.example.com"),
		to("wild-deep", "", "*.default.example.com"),
		to("wild-docs", "/docs", "*.example.com"),
		to("api-only", "/only", "only.example.com"),
		to("six", "", "2001:DB8::1"),
		to("four", "", "10.0.0.7"),
	}})
	for _, tc := range []struct {
		host, path string
		h          headers
		want       string
	}{
		{"hello.default.example.com", "/", nil, "exact"},
		{"HELLO.Default.Example.COM:8080", "/x", nil, "exact"},
		{"hello.default.example.com.", "/", nil, "exact"},
		{"hello.default", "/api", nil, "exact"},
		{"hello.default.example.com", "/api", nil, "api"},
		{"hello.default.example.com", "/api/", nil, "api"},
		{"hello.default.example.com", "/api?x=/v2", nil, "api"},
		{"hello.default.example.com", "/apix", nil, "exact"},
		{"hello.default.example.com", "/api/v2", nil, "api-v2"},
		{"hello.default.example.com", "/api/v2/things/9", nil, "api-v2"},
		{"hello.default.example.com", "/api/v2x", nil, "api"},
		{"hello.default.example.com", "/api", headers{"x-beta": "yes"}, "beta"},
		{"hello.default.example.com", "/api/v2", headers{"x-beta": "yes"}, "api-v2"},
		{"hello.default.example.com", "/api", headers{"x-beta": "no"}, "api"},
		{"hello.default.example.com", "/api", headers{"x-beta": "yes", "x-region": "eu-1"}, "beta-eu"},
		{"hello.default.example.com", "*", nil, "exact"},
		{"hello.default.example.com", "", nil, "exact"},
		{"other.example.com", "/", nil, "wild"},
		{"a.b.example.com", "/", nil, "wild"},
		{"a.default.example.com", "/", nil, "wild-deep"},
		{"a.default.example.com", "/docs", nil, "wild-deep"},
		{"other.example.com", "/docs/1", nil, "wild-docs"},
		{"only.example.com", "/only/1", nil, "api-only"},
		{"only.example.com", "/else", nil, "wild"},
		{"example.com", "/", nil, ""},
		{"[2001:db8::1]:8080", "/", nil, "six"},
		{"[2001:db8::1]", "/", nil, "six"},
		{"2001:db8::1", "/", nil, "six"},
		{"[2001:0db8:0::0001]:80", "/", nil, "six"},
		{"10.0.0.7:80", "/", nil, "four"},
		{"", "/", nil, ""},
		{":80", "/", nil, ""},
		{"[", "/", nil, ""},
		{strings.Repeat("a.", 200) + "example.com", "/", nil, ""},
	} {
		got, ok := table.Lookup([]byte(tc.host), []byte(tc.path), tc.h.get, 0)
		if got.Revision.Name != tc.want || got.Route != tc.want || ok != (tc.want != "") {
			t.Errorf("Lookup(%q, %q, %v) = %q, %t, want %q", tc.host, tc.path, tc.h, got.Revision.Name, ok, tc.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	crawler := []HeaderMatch{{Name: "User-Agent", Kind: Contains, Value: "bot"}}
	table := build(t, Config{
		Routes: []Route{to("shop", "", "shop.default"), to("any", "/any", "*"), to("wild", "", "*.wild.test")},
		Answers: []Answer{
			{Name: "robots", Path: "/robots.txt", PathExact: true, Status: 200, Body: []byte("User-agent: *\n")},
			{Name: "crawlers", Headers: crawler, Mode: WhileCold, Status: 503},
			{Name: "health", Hosts: []string{"shop.default"}, Path: "/healthz", Mode: WhileCold, Status: 200},
			{Name: "wild-health", Hosts: []string{"*.wild.test"}, Path: "/healthz", Mode: WhileCold, Status: 200},
			{Name: "one-health", Hosts: []string{"one.wild.test"}, Path: "/one", Mode: Placeholder, Status: 200},
			{Name: "of-shop", Route: "shop", Path: "/own", Mode: Placeholder, Status: 503},
			{Name: "of-wild", Route: "wild", Mode: Placeholder, Hosts: []string{"*"}, Path: "/own", Status: 503},
			{Name: "probe", Headers: []HeaderMatch{{Name: "K-Probe", Kind: Present}}, Status: 204},
		},
	})
	for _, tc := range []struct {
		host, path   string
		h            headers
		route, reply string
	}{
		{"shop.default", "/", nil, "shop", ""},
		{"shop.default", "/robots.txt", nil, "shop", "robots"},
		{"shop.default", "/robots.txt/x", nil, "shop", ""},
		{"unknown.host", "/robots.txt", nil, "robots", "robots"}, // needs no revision
		{"shop.default", "/cart", headers{"User-Agent": "Googlebot/2.1"}, "shop", "crawlers"},
		{"shop.default", "/cart", headers{"User-Agent": "curl"}, "shop", ""},
		{"unknown.host", "/cart", headers{"User-Agent": "Googlebot/2.1"}, "", ""}, // has no revision that could be cold
		{"shop.default", "/healthz/live", nil, "shop", "health"},
		{"shop.default", "/own", nil, "shop", "of-shop"},
		{"x.wild.test", "/own", nil, "wild", "of-wild"},
		{"unknown.host", "/own", nil, "", ""},
		{"unknown.host", "/any/own", nil, "any", ""},
		{"shop.default", "/healthzz", nil, "shop", ""},
		{"unknown.host", "/any/healthz", nil, "any", ""},
		{"two.wild.test", "/healthz", nil, "wild", "wild-health"},
		{"one.wild.test", "/healthz", nil, "wild", "wild-health"},
		{"one.wild.test", "/one", nil, "wild", "one-health"},
		{"two.wild.test", "/one", nil, "wild", ""},
		{"two.wild.test", "/one", headers{"k-probe": ""}, "wild", "probe"},
	} {
		got, ok := table.Lookup([]byte(tc.host), []byte(tc.path), tc.h.get, 0)
		reply := ""
		if got.Answer != nil {
			reply = got.Answer.Name
		}
		if got.Route != tc.route || reply != tc.reply || ok != (tc.route != "") {
			t.Errorf("Lookup(%q, %q, %v) = route %q, answer %q, want %q, %q", tc.host, tc.path, tc.h, got.Route, reply, tc.route, tc.reply)
		}
	}
}

func TestBuildReportsEveryFault(t *testing.T) {
	_, err := Build(Config{
		Routes: []Route{
			to("a", "", "x.test"),
			to("twin", "/", "X.test"),
			with(to("h1", "", "h.test"), HeaderMatch{Name: "A"}, HeaderMatch{Name: "B"}),
			with(to("h2", "", "h.test"), HeaderMatch{Name: "b"}, HeaderMatch{Name: "B"}),
			to("star", "", "a.*.test"),
			to("port", "", "a.test:80"),
			to("relative", "api", "b.test"),
			to("query", "/api?x", "b.test"),
			to("nohost", ""),
			{Name: "noweight", Hosts: []string{"c.test"}, Backends: []Backend{{Revision: rev("r")}}},
			{Name: "negative", Hosts: []string{"d.test"}, Backends: []Backend{{Revision: rev("r"), Weight: -1}}},
			with(to("nameless", "", "e.test"), HeaderMatch{}),
		},
		Answers: []Answer{{Name: "continue", Status: 100}, {Name: "badhost", Status: 200, Hosts: []string{""}}, {Name: "orphan", Route: "gone", Status: 200}},
	}, nil)
	if err == nil {
		t.Fatal("Build succeeded, want faults")
	}
	var names []string
	for line := range strings.Lines(err.Error()) {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	want := []string{"route twin", "route star", "route port", "route relative", "route query", "route nohost",
		"route noweight", "route negative", "route nameless", "answer continue", "answer badhost", "answer orphan"}
	if !slices.Equal(names, want) {
		t.Errorf("faults of %q, want %q\n%v", names, want, err)
	}
}

func TestServiceRoutes(t *testing.T) {
	traffic := []Share{{rev("pay-1"), "current", 80}, {rev("pay-2"), "candidate", 20}, {rev("pay-3"), "latest", 0}}
	table := build(t, Config{Routes: Domains{TagHeader: true}.Routes("shop", "pay", false, traffic)})
	for _, host := range []string{"pay.shop.example.com", "pay.shop", "pay.shop.svc", "pay.shop.svc.cluster.local"} {
		if got, _ := table.Lookup([]byte(host), []byte("/"), headers{}.get, 0); got.Revision.Name != "pay-1" || got.Route != "shop/pay" {
			t.Errorf("Lookup(%s) = %+v, want pay-1", host, got)
		}
	}
	if got, _ := table.Lookup([]byte("latest-pay.shop.svc"), []byte("/"), headers{}.get, 1<<63); got.Revision.Name != "pay-3" || got.Tag != "latest" {
		t.Errorf("Lookup of a tag's host = %+v, want pay-3", got)
	}
	if got, _ := table.Lookup([]byte("pay.shop"), []byte("/"), headers{"Knative-Serving-Tag": "latest"}.get, 0); got.Revision.Name != "pay-3" {
		t.Errorf("Lookup with a tag header = %+v, want pay-3", got)
	}
	local := build(t, Config{Routes: Domains{Public: "a.b", Cluster: "kube"}.Routes("shop", "pay", true, traffic)})
	for host, want := range map[string]bool{"pay.shop.a.b": false, "pay.shop.svc.kube": true, "pay.shop": true} {
		if _, ok := local.Lookup([]byte(host), []byte("/"), headers{}.get, 0); ok != want {
			t.Errorf("Lookup(%s) of a local service = %t, want %t", host, ok, want)
		}
	}
	if got := (Domains{Public: "run.test"}).Hosts("ns", "x", false)[0]; got != "x.ns.run.test" {
		t.Errorf("public host = %s, want x.ns.run.test", got)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := benchTable(t)
	path, agent := []byte("/api/v1/things?x=1"), []byte("curl")
	header := func(string) []byte { return agent }
	for _, host := range []string{"svc-7.default.example.com", "SVC-7.Default.example.com:8080", "split.default", "a.b.wild.test", "[2001:db8::1]:80", "none"} {
		h := []byte(host)
		if n := testing.AllocsPerRun(100, func() { table.Lookup(h, path, header, 7) }); n != 0 {
			t.Errorf("Lookup(%s) allocates %v times, want 0", host, n)
		}
		if n := testing.AllocsPerRun(100, func() { table.Next(h, path, header) }); n != 0 {
			t.Errorf("Next(%s) allocates %v times, want 0", host, n)
		}
	}
}
