package manifest

import (
	"testing"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// TestInterceptorRoutes follows requests through the table that the manifest makes.
func TestInterceptorRoutes(t *testing.T) {
	sources, err := Open(nil, "testdata/good/interceptor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if set, diags := Load(sources, Options{}); len(set.InterceptorRoutes) != 0 || len(diags.Warnings()) != 1 {
		t.Errorf("Load without them = %v, want one warning", diags)
	}
	set, diags := Load(sources, Options{Strict: true, InterceptorRoutes: true})
	if len(diags) != 0 {
		t.Fatal(diags)
	}
	rev := identity.Revision{Namespace: "shop", Name: "shop-00001"}
	domains := route.Domains{}
	cfg := route.Config{Routes: domains.Routes("shop", "shop", false, []route.Share{{Revision: rev, Percent: 100}})}
	routes, answers := set.InterceptorRoutes[0].Routes(cfg.Routes[0])
	cfg.Routes, cfg.Answers = append(cfg.Routes, routes...), append(cfg.Answers, answers...)
	table, err := route.Build(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	const front = "InterceptorRoute shop/front"
	for _, tc := range []struct{ host, path, header, value, route, answer string }{
		{"shop.example.org", "/cart/7", "", "", "", ""},
		{"shop.example.org", "/cart/7", "X-Region", "eu", front, front + " placeholder"},
		{"a.shop.example.org", "/pay", "X-Region", "eu", front, front + " placeholder"},
		{"a.shop.example.org", "/", "X-Region", "eu", "", ""},
		{"shop.shop", "/only", "", "", front, front + " placeholder"},
		{"shop.shop", "/only", "X-Down", "1", front, front + " static 1"},
		{"shop.shop", "/healthz", "", "", "shop/shop", ""}, // a route's answers are for what the route takes
	} {
		header := func(name string) []byte {
			if name == tc.header || (tc.header != "" && name == "X-Beta") {
				return []byte(tc.value)
			}
			return nil
		}
		got, _ := table.Next([]byte(tc.host), []byte(tc.path), header)
		answer := ""
		if got.Answer != nil {
			answer = got.Answer.Name
		}
		if got.Route != tc.route || answer != tc.answer {
			t.Errorf("Next(%s%s, %s) = %q with %q, want %q with %q", tc.host, tc.path, tc.header, got.Route, answer, tc.route, tc.answer)
		}
	}
}

// TestInterceptorRouteWithoutRules stands before its service's own hosts.
func TestInterceptorRouteWithoutRules(t *testing.T) {
	r := InterceptorRoute{Object: Object{Kind: "InterceptorRoute", Namespace: "shop", Name: "shop"}, Static: []StaticRoute{{Response: Response{Status: 200}}}}
	cfg := route.Config{Routes: route.Domains{}.Routes("shop", "shop", false, []route.Share{{Revision: identity.Revision{Name: "x"}, Percent: 100}})}
	routes, answers := r.Routes(cfg.Routes[0])
	if len(routes) != 0 {
		t.Errorf("Routes without rules = %v, want none", routes)
	}
	cfg.Answers = answers
	table, err := route.Build(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := table.Next([]byte("shop.shop"), []byte("/"), func(string) []byte { return nil })
	if !ok || got.Answer == nil || got.Answer.Mode != route.WhileCold || got.Revision.Name != "x" {
		t.Errorf("Next = %+v, want the revision with an answer while it is cold", got)
	}
}
