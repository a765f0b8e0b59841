package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// source is one parsed file.
type source struct {
	path  string // inside the module
	pkg   string // path of its package
	test  bool
	lines int
	fset  *token.FileSet
	file  *ast.File
	// bubbles are the functions of the package's tests that start a bubble of testing/synctest.
	bubbles []string
}

// sources parses every file that `go list` names; a file that does not parse is the compiler's to report.
func sources(t *testing.T, pkgs []pkg) []source {
	t.Helper()
	var out []source
	bubbles := map[string][]string{}
	for _, p := range pkgs {
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				continue // gone since it was listed
			}
			if s, err := parse(p.path()+"/"+name, text); err == nil {
				out = append(out, s)
				bubbles[s.pkg] = append(bubbles[s.pkg], s.startBubbles()...)
			}
		}
	}
	for i := range out {
		out[i].bubbles = bubbles[out[i].pkg]
	}
	return out
}

// startBubbles names the functions of the file that call synctest.Test.
func (s source) startBubbles() (names []string) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			inspectCalls(f.Body, func(x, name string, _ *ast.CallExpr) {
				if x == "synctest" && name == "Test" {
					names = append(names, f.Name.Name)
				}
			})
		}
	}
	return names
}

func parse(path string, text []byte) (source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
	return source{
		path: path, pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go"),
		lines: bytes.Count(text, []byte{'\n'}), fset: fset, file: file,
	}, err
}

// imports reports whether the file imports a package.
func (s source) imports(path string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

// calls yields every x.Name(…) and Name(…) of the file.
func (s source) calls(f func(x, name string, pos token.Position)) {
	inspectCalls(s.file, func(x, name string, call *ast.CallExpr) { f(x, name, s.fset.Position(call.Pos())) })
}

func inspectCalls(root ast.Node, f func(x, name string, call *ast.CallExpr)) {
	ast.Inspect(root, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			f("", fun.Name, call)
		case *ast.SelectorExpr:
			if x, ok := fun.X.(*ast.Ident); ok {
				f(x.Name, fun.Sel.Name, call)
			}
		}
		return true
	})
}

// sleeps: a test that sleeps is slow or flaky, mostly both. In a bubble of testing/synctest time is virtual: in a
// file that uses it, and in what is handed to a function of the package that starts a bubble.
func sleeps(s source) (violations []string) {
	if !s.test || s.imports("testing/synctest") {
		return nil
	}
	virtual := map[token.Pos]bool{}
	inspectCalls(s.file, func(x, name string, call *ast.CallExpr) {
		if x == "" && slices.Contains(s.bubbles, name) {
			inspectCalls(call, func(_, _ string, inner *ast.CallExpr) { virtual[inner.Pos()] = true })
		}
	})
	inspectCalls(s.file, func(x, name string, call *ast.CallExpr) {
		if x == "time" && name == "Sleep" && !virtual[call.Pos()] {
			violations = append(violations, fmt.Sprintf("%v: time.Sleep in a test: use a testing/synctest bubble, or wait for the condition with a deadline",
				s.fset.Position(call.Pos())))
		}
	})
	return violations
}

// skips: a skipped test is one that nobody runs.
func skips(s source) (violations []string) {
	if !s.test {
		return nil
	}
	s.calls(func(x, name string, pos token.Position) {
		if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name) && slices.Contains([]string{"t", "b", "f", "tb", "rt"}, x) {
			violations = append(violations, fmt.Sprintf("%v: %s.%s: a test that does not run proves nothing; make what it needs, or remove it", pos, x, name))
		}
	})
	return violations
}

// environment: where the process environment may be read, and why.
var environment = map[string]string{
	"cmd":                "a main hands its environment down as a value",
	"internal/config":    "the one decoder of settings",
	"test":               "starts peers, and is told by its script where they are",
	"bench":              "starts peers and compilers with an environment of their own",
	"internal/citest":    "a tool of the build",
	"internal/sampleapp": "sample programs read the contract's PORT and K_SERVICE, as users' programs do",
}

func environ(s source) (violations []string) {
	for prefix := range environment {
		if under(s.pkg, prefix) {
			return nil
		}
	}
	if s.test {
		return nil // a test binary that starts itself as a child tells it so by a variable
	}
	s.calls(func(x, name string, pos token.Position) {
		if x == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, name) {
			violations = append(violations, fmt.Sprintf("%v: os.%s: settings come in by Config; only internal/config and cmd read the environment", pos, name))
		}
	})
	return violations
}

// clocks: pure packages get the time as a value.
func clocks(s source) (violations []string) {
	if s.test || rankOf(s.pkg) != pure {
		return nil
	}
	s.calls(func(x, name string, pos token.Position) {
		banned := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
		if x == "time" && slices.Contains(banned, name) {
			violations = append(violations, fmt.Sprintf("%v: time.%s in a pure package: take now as a parameter, so that tests choose it", pos, name))
		}
	})
	return violations
}

// beforeMain: where something may happen before main, and why.
var beforeMain = map[string]string{
	"cmd/queueproxy/early": "a pod's first question is asked before the program is initialised",
}

// inits: wiring is explicit.
func inits(s source) (violations []string) {
	if beforeMain[s.pkg] != "" {
		return nil
	}
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			violations = append(violations, fmt.Sprintf("%v: func init: nothing happens before main; build it in a constructor", s.fset.Position(f.Pos())))
		}
	}
	return violations
}

// maxLines is where a file has become several; 80 to 300 is the aim. Tables of cases may be half as long again.
const maxLines = 600

func lengths(s source) []string {
	limit := maxLines
	if s.test {
		limit += maxLines / 2
	}
	if s.lines <= limit || ast.IsGenerated(s.file) {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines, at most %d: split it by role", s.path, s.lines, limit)}
}

var sourceRules = map[string]func(source) []string{
	"sleeps": sleeps, "skips": skips, "environ": environ, "clocks": clocks, "inits": inits, "lengths": lengths,
}

func TestSources(t *testing.T) {
	all := sources(t, load(t))
	if len(all) < 20 {
		t.Fatalf("%d files parsed, want those of the whole module", len(all))
	}
	for name, rule := range sourceRules {
		t.Run(name, func(t *testing.T) {
			for _, s := range all {
				report(t, rule(s))
			}
		})
	}
}

// comments checks that each package says what it is, the way pkgsite shows it.
func comments(pkgs []pkg, all []source) (violations []string) {
	for _, p := range pkgs {
		if len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.path()) + " "
		}
		ok := slices.ContainsFunc(all, func(s source) bool {
			return s.pkg == p.path() && !s.test && s.file.Doc != nil && strings.HasPrefix(s.file.Doc.Text(), want)
		})
		if !ok {
			violations = append(violations, fmt.Sprintf("%s has no package comment that starts with %q: say what it is, what it promises, "+
				"what it does not do, and its concurrency rule", p.path(), strings.TrimSpace(want)))
		}
	}
	return violations
}

func TestPackageComments(t *testing.T) {
	pkgs := load(t)
	report(t, comments(pkgs, sources(t, pkgs)))
}

// TestSourceRulesCatch shows each rule a file that breaks it, and one that does not.
func TestSourceRulesCatch(t *testing.T) {
	for _, tc := range []struct {
		rule, path, body string
		fires            bool
	}{
		{"sleeps", "activator/a_test.go", `import "time"; func f() { time.Sleep(1) }`, true},
		{"sleeps", "activator/a.go", `import "time"; func f() { time.Sleep(1) }`, false},
		{"sleeps", "activator/a_test.go", `import ("time"; "testing/synctest"); func f() { synctest.Test(nil, nil); time.Sleep(1) }`, false},
		{"sleeps", "activator/a_test.go", `import "time"; func f() { bubble(nil, func() { time.Sleep(1) }) }`, false},
		{"sleeps", "activator/a_test.go", `import "time"; func f() { bubble(nil, nil); time.Sleep(1) }`, true},
		{"skips", "activator/a_test.go", `func f(t T) { if x { t.Skipf("no docker") } }`, true},
		{"skips", "activator/a_test.go", `func f(s S) { s.Skip(1) }`, false}, // some scanner
		{"environ", "activator/a.go", `import "os"; var x = os.Getenv("X")`, true},
		{"environ", "internal/config/a.go", `import "os"; var x = os.Getenv("X")`, false},
		{"environ", "cmd/rouse/up/a.go", `import "os"; var x = os.Environ()`, false},
		{"clocks", "breaker/a.go", `import "time"; var x = time.Now()`, true},
		{"clocks", "breaker/a.go", `import "time"; func f(now time.Time) { now.After(now) }`, false},
		{"clocks", "activator/a.go", `import "time"; var x = time.Now()`, false},
		{"inits", "metrics/a.go", `func init() {}`, true},
		{"inits", "metrics/a.go", `type s struct{}; func (s) init() {}`, false},
		{"inits", "cmd/queueproxy/early/a.go", `func init() {}`, false},
		{"lengths", "metrics/a.go", strings.Repeat("\n", maxLines+1), true},
		{"lengths", "metrics/a.go", strings.Repeat("\n", maxLines-1), false},
	} {
		s, err := parse(tc.path, []byte("package x\n"+tc.body))
		if err != nil {
			t.Fatal(err)
		}
		s.bubbles = []string{"bubble"}
		if got := sourceRules[tc.rule](s); (len(got) > 0) != tc.fires {
			t.Errorf("%s on %s %.80q: violations %q, want some: %t", tc.rule, tc.path, tc.body, got, tc.fires)
		}
	}
	undocumented, _ := parse("metrics/a.go", []byte("// Metrics are counted here.\npackage metrics\n"))
	documented, _ := parse("metrics/b.go", []byte("// Package metrics counts.\npackage metrics\n"))
	p := []pkg{{ImportPath: module + "/metrics", Name: "metrics", GoFiles: []string{"a.go", "b.go"}}}
	if got := comments(p, []source{undocumented}); len(got) != 1 {
		t.Errorf("comments without a package comment: %q, want one", got)
	}
	if got := comments(p, []source{undocumented, documented}); len(got) != 0 {
		t.Errorf("comments with one: %q, want none", got)
	}
}
