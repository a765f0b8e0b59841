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
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
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
