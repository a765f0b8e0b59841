package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/identity"
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
	var out bytes.Buffer
	c := &cluster{services: []string{"a", "b", "c"}}
	if err := releaseAll(t.Context(), c, time.Minute, &out); err != nil || len(c.released) != 3 {
		t.Errorf("released %q, %v; want all", c.released, err)
	}
	if !strings.Contains(out.String(), "default/b has its selector") {
		t.Errorf("said %s", out.String())
	}
	c = &cluster{services: []string{"a", "b", "c"}, stuck: "a"}
	err := releaseAll(t.Context(), c, time.Minute, &out)
	if err == nil || !strings.Contains(err.Error(), "1 of 3") || len(c.released) != 2 {
		t.Errorf("with one that is stuck: released %q, %v; want the others, and an error", c.released, err)
	}
}

func TestUninstallIsTheReverse(t *testing.T) {
	code, out, errs := command(t, "uninstall", "--keep-services")
	role, ns := strings.Index(out, "kind: ClusterRole\n"), strings.Index(out, "kind: Namespace")
	if code != 0 || role < 0 || ns < role {
		t.Errorf("uninstall = %d: the namespace at %d must come after the roles at %d\n%s", code, ns, role, errs)
	}
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	if code, out, errs := command(t, "uninstall"); code != 1 || out != "" || !strings.Contains(errs, "/nonexistent/config") {
		t.Errorf("uninstall without a cluster = %d %q %s", code, out, errs)
	}
}
