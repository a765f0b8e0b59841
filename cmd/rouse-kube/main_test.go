package main

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), "rouse-kube", args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestMovesNeedACluster(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	for _, verb := range []string{"adopt", "release"} {
		if code, out, errs := command(t, verb, "shop"); code != 1 || out != "" || !strings.Contains(errs, "/nonexistent/config") {
			t.Errorf("%s without a cluster = %d %q %s", verb, code, out, errs)
		}
	}
}

func TestNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, args := range [][]string{{"check"}, {"top", "-A"}, {"status", "--context", "east"}, {"adopt", "shop"}} {
		code, out, errs := command(t, args...)
		for _, way := range []string{"--kubeconfig", "KUBECONFIG", "~/.kube/config"} {
			if code == 0 || out != "" || !strings.Contains(errs, way) {
				t.Errorf("%q without a cluster = %d %q %s, want it to name %s", args, code, out, errs, way)
			}
		}
	}
}

// TestHelpNamesTheProgramThatWasCalled: most never hear of this one.
func TestHelpNamesTheProgramThatWasCalled(t *testing.T) {
	for path, want := range map[string]string{"rouse": "rouse check", "/usr/bin/rouse": "rouse check", "/usr/bin/rouse-kube": "rouse-kube check"} {
		for _, verb := range []string{"check", "top", "adopt", "release", "uninstall"} {
			var out, errs bytes.Buffer
			code := run(t.Context(), calledAs(path), []string{verb, "--help"}, strings.NewReader(""), &out, &errs)
			if usage := strings.Replace(want, "check", verb, 1); code != 0 || !strings.Contains(out.String(), "\n  "+usage+" ") {
				t.Errorf("%s %s --help = %d, does not show %q\n%s", path, verb, code, usage, out.String())
			}
		}
	}
}
