package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
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

func TestUninstallIsTheReverse(t *testing.T) {
	code, out, errs := command(t, "uninstall", "--keep-services")
	role, ns := strings.Index(out, "kind: ClusterRole\n"), strings.Index(out, "kind: Namespace")
	if code != 0 || role < 0 || ns < role {
		t.Errorf("uninstall = %d: the namespace at %d must come after the roles at %d\n%s", code, ns, role, errs)
	}
	for _, args := range [][]string{{"-n", "shared"}, {"--delete-namespace=false"}} {
		_, out, _ := command(t, append([]string{"uninstall", "--keep-services"}, args...)...)
		if strings.Contains(out, "kind: Namespace") || !strings.Contains(out, "kind: ConfigMap\nmetadata: {name: rouse-ports, namespace: ") {
			t.Errorf("uninstall %q prints the namespace, or not what control made in it", args)
		}
	}
	if _, out, _ := command(t, "uninstall", "--keep-services", "-n", "ours", "--delete-namespace"); !strings.Contains(out, "kind: Namespace\nmetadata:\n  name: ours\n") {
		t.Error("a namespace that is to be deleted is not printed")
	}
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	if code, out, errs := command(t, "uninstall"); code != 1 || out != "" || !strings.Contains(errs, "/nonexistent/config") {
		t.Errorf("uninstall without a cluster = %d %q %s", code, out, errs)
	}
}
