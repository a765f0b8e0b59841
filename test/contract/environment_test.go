package contract

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const ours = "../../cmd/queueproxy/env.go"

// accepted returns the variables that have an effect in our sidecar, and those that are accepted without one, with the
// reasons.
func accepted(t *testing.T) (effective []string, ignored map[string]string) {
	t.Helper()
	ignored = make(map[string]string)
	ast.Inspect(parse(t, ours), func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				name, _, _ := strings.Cut(tagOf(t, n).Get("env"), ",")
				effective = append(effective, name)
			}
		case *ast.FuncDecl:
			if n.Name.Name == "ignored" {
				ast.Inspect(n, func(n ast.Node) bool {
					if kv, ok := n.(*ast.KeyValueExpr); ok {
						ignored[literal(t, kv.Key)] = literal(t, kv.Value)
					}
					return true
				})
			}
		}
		return true
	})
	return effective, ignored
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != token.STRING {
		t.Fatalf("%s: the table of ignored variables must hold plain texts", ours)
	}
	s, err := strconv.Unquote(b.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sources returns where Knative's module lies, downloaded and checked against go.sum when it was not there.
func sources(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "knative.dev/serving").Output()
	if err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	var m struct{ Dir, Version string }
	if err := json.Unmarshal(out, &m); err != nil || m.Dir == "" {
		t.Fatalf("go mod download said %s: %v", out, err)
	}
	return m.Dir
}

func recorded(t *testing.T) (names []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/main_env.txt")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			names = append(names, l)
		}
	}
	return names
}

// TestEveryVariableIsAccepted: whatever Knative sets or reads, in either generation, our sidecar knows: it has an
// effect, or a reason why it needs none.
func TestEveryVariableIsAccepted(t *testing.T) {
	effective, ignored := accepted(t)
	dir := sources(t)
	for _, c := range []struct {
		name  string
		names []string
		least int
	}{
		{"0.42, read by the queue-proxy", read(t, filepath.Join(dir, "pkg/queue/sharedmain/main.go"), "config", "Env"), 28},
		{"0.42, set by the controller", set(t, filepath.Join(dir, "pkg/reconciler/revision/resources/queue.go")), 28},
		{"development branch", recorded(t), 27},
	} {
		if len(c.names) < c.least {
			t.Errorf("%s: found %d variables, want at least %d: have the sources changed their shape?", c.name, len(c.names), c.least)
		}
		for _, n := range c.names {
			if !slices.Contains(effective, n) && ignored[n] == "" {
				t.Errorf("%s: %s is not accepted: read it in %s, or name it there as ignored with the reason", c.name, n, ours)
			}
		}
	}
}

// TestIgnoredVariablesExist: the table of what has no effect holds nothing that has one, and nothing that nobody sets.
func TestIgnoredVariablesExist(t *testing.T) {
	effective, ignored := accepted(t)
	dir := sources(t)
	known := slices.Concat(recorded(t), read(t, filepath.Join(dir, "pkg/queue/sharedmain/main.go"), "config", "Env"),
		set(t, filepath.Join(dir, "pkg/reconciler/revision/resources/queue.go")))
	for n, reason := range ignored {
		if slices.Contains(effective, n) {
			t.Errorf("%s is both read and ignored", n)
		}
		if !slices.Contains(known, n) || reason == "" {
			t.Errorf("%s (%q) is ignored, but Knative does not set it, or there is no reason", n, reason)
		}
	}
	for _, n := range effective {
		if n == "NOTIFY_SOCKET" { // systemd's, see sd_notify(3)
			continue
		}
		if !strings.HasPrefix(n, "ROUSE_") && !slices.Contains(known, n) {
			t.Errorf("%s looks like Knative's, but Knative does not set it: ours begin with ROUSE_", n)
		}
	}
}
