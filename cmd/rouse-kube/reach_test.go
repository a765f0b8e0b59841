package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// asked is an API server that has nothing and notes what it is asked.
type asked struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string // guarded by mu
}

func newAsked(t *testing.T) *asked {
	a := &asked{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.paths = append(a.paths, r.Method+" "+r.URL.Path)
		a.mu.Unlock()
		http.NotFound(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *asked) first() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.paths) == 0 {
		return "nothing"
	}
	return a.paths[0]
}

// kubeconfigs writes two files: east, with the current context, and west, each with a server and a namespace of its own.
func kubeconfigs(t *testing.T, east, west string) string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for _, c := range []struct{ name, server, current string }{{"east", east, "east"}, {"west", west, ""}} {
		file := filepath.Join(dir, c.name)
		text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[3]q
clusters: [{name: %[1]s, cluster: {server: %[2]q}}]
users: [{name: %[1]s, user: {}}]
contexts: [{name: %[1]s, context: {cluster: %[1]s, user: %[1]s, namespace: of-%[1]s}}]
`, c.name, c.server, c.current)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return strings.Join(files, string(filepath.ListSeparator))
}

// TestMovesReach: adopt, release and uninstall find their cluster and their namespace as check does.
func TestMovesReach(t *testing.T) {
	for _, tc := range []struct {
		args       string
		east, west string // what each is asked first
	}{
		{"adopt shop", "GET /api/v1/namespaces/of-east/services/shop", "nothing"},
		{"release shop", "GET /api/v1/namespaces/of-east/services/shop", "nothing"},
		{"adopt shop --context west", "nothing", "GET /api/v1/namespaces/of-west/services/shop"},
		{"release shop --context west -n other", "nothing", "GET /api/v1/namespaces/other/services/shop"},
		{"release shop --kubeconfig WEST --context west", "nothing", "GET /api/v1/namespaces/of-west/services/shop"},
		{"uninstall", "GET /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rouse-control", "nothing"},
		{"uninstall --context west -n system", "nothing", "GET /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rouse-control"},
	} {
		east, west := newAsked(t), newAsked(t)
		list := kubeconfigs(t, east.URL, west.URL)
		t.Setenv("KUBECONFIG", list)
		args := strings.ReplaceAll(tc.args, "WEST", filepath.SplitList(list)[1])
		code, out, errs := command(t, strings.Fields(args)...)
		if code != 1 || out != "" || errs == "" || east.first() != tc.east || west.first() != tc.west {
			t.Errorf("%s = %d %q %s; asked east for %s, west for %s; want %s and %s", args, code, out, errs, east.first(), west.first(), tc.east, tc.west)
		}
	}
}

// TestUninstallNamespace: -n is where Rouse is, whatever the context's namespace.
func TestUninstallNamespace(t *testing.T) {
	var at string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, "/clusterrolebindings/") {
			fmt.Fprintf(w, `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","subjects":[{"kind":"ServiceAccount","name":"x","namespace":%q}]}`, at)
			return
		}
		kind, version := "ServiceList", "v1"
		if strings.HasSuffix(r.URL.Path, "/endpointslices") {
			kind, version = "EndpointSliceList", "discovery.k8s.io/v1"
		}
		fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":{},"items":[]}`, kind, version)
	}))
	defer server.Close()
	t.Setenv("KUBECONFIG", kubeconfigs(t, server.URL, server.URL))
	for args, want := range map[string]string{"uninstall": "name: rouse-system\n", "uninstall -n other --delete-namespace": "name: other\n"} {
		at = strings.TrimSpace(strings.TrimPrefix(want, "name: "))
		code, out, errs := command(t, strings.Fields(args)...)
		_, namespace, _ := strings.Cut(out, "kind: Namespace")
		if code != 0 || !strings.Contains(namespace, want) || strings.Contains(out, "of-east") {
			t.Errorf("%s = %d %s; the namespace is %s, want %s", args, code, errs, namespace, want)
		}
	}
}
