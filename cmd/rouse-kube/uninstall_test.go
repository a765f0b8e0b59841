package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

// cluster has Services of which one cannot be released.
type cluster struct {
	services []string
	stuck    string
	released []string
}

func (c *cluster) Carried(context.Context) (all []identity.Key, err error) {
	for _, s := range c.services {
		all = append(all, identity.Key{Namespace: "default", Name: s})
	}
	return all, nil
}

func (c *cluster) Release(ctx context.Context, _, name string, say func(string)) error {
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("no deadline")
	}
	if name == c.stuck {
		return errors.New("no ready pod")
	}
	say("the selector comes back")
	c.released = append(c.released, name)
	return nil
}

func TestReleaseAll(t *testing.T) {
	for name, tc := range map[string]struct {
		services []string
		stuck    string
		waits    time.Duration
	}{
		"all":               {[]string{"a", "b", "c"}, "", kube.Handover},
		"one that is stuck": {[]string{"a", "b", "c"}, "a", 0},
		"none":              {nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				c := &cluster{services: tc.services, stuck: tc.stuck}
				began := time.Now()
				err := releaseAll(t.Context(), c, time.Minute, &out)
				if waited := time.Since(began); waited != tc.waits {
					t.Errorf("waited %s, want %s", waited, tc.waits)
				}
				free := slices.DeleteFunc(slices.Clone(tc.services), func(s string) bool { return s == tc.stuck })
				if !slices.Equal(c.released, free) {
					t.Errorf("released %q, want %q", c.released, free)
				}
				if stuck := err != nil && strings.Contains(err.Error(), "1 of 3"); stuck != (tc.stuck != "") || (err == nil) == stuck {
					t.Errorf("error %v", err)
				}
				if len(free) > 0 && !strings.Contains(out.String(), "default/b has its selector") {
					t.Errorf("said %s", out.String())
				}
			})
		})
	}
}

// TestUninstallIsOfOneInstallation: what has one name in a cluster is printed for the namespace whose Rouse it belongs to alone.
func TestUninstallIsOfOneInstallation(t *testing.T) {
	control := map[string]*kube.Component{controlName: part(workload.StatefulSet, controlName, 2)}
	for name, tc := range map[string]struct {
		bound      map[string][]string
		components map[string]*kube.Component
		refuses    string
		err        string // a part of it, empty for none
	}{
		"it is here":                       {map[string][]string{"rouse-control": {"tools"}, "rouse-webhook": {"tools"}}, control, "", ""},
		"without its webhook":              {map[string][]string{"rouse-control": {"tools"}}, control, "", ""},
		"uninstalled halfway":              {map[string][]string{"rouse-control": {"tools"}}, nil, "", ""},
		"bindings are gone already":        {nil, control, "", ""},
		"it is elsewhere":                  {map[string][]string{"rouse-control": {"rouse-system"}}, nil, "", "of the Rouse in namespace rouse-system, and -n is tools"},
		"another one has taken the rights": {map[string][]string{"rouse-control": {"rouse-system"}}, control, "", "give -n rouse-system"},
		"two share the rights":             {map[string][]string{"rouse-control": {"tools", "rouse-system"}}, control, "", "in namespace rouse-system"},
		"the webhook is elsewhere":         {map[string][]string{"rouse-control": {"tools"}, "rouse-webhook": {"rouse-system"}}, control, "", "ClusterRoleBinding rouse-webhook"},
		"it is nowhere":                    {nil, nil, "", "no StatefulSet autoscaler"},
		"bindings may not be read":         {nil, control, "bound", "--offline"},
		"pods may not be read":             {nil, control, "component", "--offline"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &fake{t: t, bound: tc.bound, components: tc.components, refuses: map[string]error{tc.refuses: errors.New("refused")}}
			err := ours(t.Context(), c, "tools")
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("uninstall -n tools: %v, want %q", err, tc.err)
			}
		})
	}
}

// TestUninstallOfAnother: not without Services to release either.
func TestUninstallOfAnother(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rouse-control" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
			return
		}
		_, _ = io.WriteString(w, `{"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "subjects": [{"kind": "ServiceAccount", "name": "rouse-control", "namespace": "tools"}]}`)
	}))
	defer s.Close()
	config := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}", s.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"--keep-services"}, {"--keep-services", "-n", "oops"}} {
		code, out, errs := command(t, append([]string{"uninstall", "--kubeconfig", config}, args...)...)
		if code != 1 || out != "" || !strings.Contains(errs, "of the Rouse in namespace tools") {
			t.Errorf("uninstall %q = %d %q %s, want it to name tools and to print nothing", args, code, out, errs)
		}
	}
	code, out, errs := command(t, "uninstall", "--kubeconfig", config, "--keep-services", "-n", "tools")
	if code != 0 || strings.Contains(out, "CAUTION") || !strings.Contains(out, "namespace: tools") {
		t.Errorf("uninstall -n tools = %d %.300s %s", code, out, errs)
	}
}

// TestOfflineSaysWhatItDisarms at the head of what it prints, which stays YAML.
func TestOfflineSaysWhatItDisarms(t *testing.T) {
	code, out, errs := command(t, "uninstall", "--offline", "-n", "oops")
	head, _, _ := strings.Cut(out, "\napiVersion")
	for _, want := range []string{"CAUTION", "namespace oops", "ClusterRole rouse-control", "ClusterRoleBinding rouse-control", "ClusterRoleBinding rouse-webhook", "MutatingWebhookConfiguration rouse-inject"} {
		if code != 0 || !strings.Contains(head, want) {
			t.Errorf("uninstall --offline = %d, its head lacks %s:\n%s\n%s", code, want, head, errs)
		}
	}
	for line := range strings.Lines(head) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("the head is no comment: %q", line)
		}
	}
}

func TestUninstallIsTheReverse(t *testing.T) {
	code, out, errs := command(t, "uninstall", "--offline")
	role, ns := strings.Index(out, "kind: ClusterRole\n"), strings.Index(out, "kind: Namespace")
	if code != 0 || role < 0 || ns < role {
		t.Errorf("uninstall = %d: the namespace at %d must come after the roles at %d\n%s", code, ns, role, errs)
	}
	for _, args := range [][]string{{"-n", "shared"}, {"--delete-namespace=false"}} {
		_, out, _ := command(t, append([]string{"uninstall", "--offline"}, args...)...)
		if strings.Contains(out, "kind: Namespace") || !strings.Contains(out, "kind: ConfigMap\nmetadata: {name: rouse-ports, namespace: ") {
			t.Errorf("uninstall %q prints the namespace, or not what control made in it", args)
		}
	}
	if _, out, _ := command(t, "uninstall", "--offline", "-n", "ours", "--delete-namespace"); !strings.Contains(out, "kind: Namespace\nmetadata:\n  name: ours\n") {
		t.Error("a namespace that is to be deleted is not printed")
	}
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	if code, out, errs := command(t, "uninstall"); code != 1 || out != "" || !strings.Contains(errs, "/nonexistent/config") {
		t.Errorf("uninstall without a cluster = %d %q %s", code, out, errs)
	}
}
