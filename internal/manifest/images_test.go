package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shop, plain := write("shop", 0o755), write("plain", 0o644)
	images := Images{Dir: dir, Exec: map[string]string{
		"example.test/hello":     "./bin/hello",
		"example.test/pay:v2":    "./bin/pay2",
		"example.test/*":         "./bin/any",
		"example.test/team/*:v3": "./bin/v3",
	}}
	for _, tc := range []struct {
		name    string
		c       Container
		argv    []string
		builtin string
		err     string
	}{
		{name: "a command wins over all", c: Container{Image: "example.test/hello", Command: []string{"/bin/x", "a"}, Args: []string{"b"}}, argv: []string{"/bin/x", "a", "b"}},
		{name: "exec without tag matches any", c: Container{Image: "example.test/hello:v9", Args: []string{"-v"}}, argv: []string{"./bin/hello", "-v"}},
		{name: "exec without tag matches a digest", c: Container{Image: "example.test/hello@sha256:ab"}, argv: []string{"./bin/hello"}},
		{name: "exec with tag matches that one", c: Container{Image: "example.test/pay:v2"}, argv: []string{"./bin/pay2"}},
		{name: "star takes the rest", c: Container{Image: "example.test/pay:v1"}, argv: []string{"./bin/any"}},
		{name: "the closest pattern wins", c: Container{Image: "example.test/team/a/b:v3"}, argv: []string{"./bin/v3"}},
		{name: "images dir by base name", c: Container{Image: "registry:5000/a/shop:v1"}, argv: []string{shop}},
		{name: "built-in by base name", c: Container{Image: "gcr.io/samples/autoscale:1"}, builtin: "autoscale"},
		{name: "not executable", c: Container{Image: "r/plain"}, err: "make " + plain + " executable"},
		{name: "not there", c: Container{Image: "r/nope:v1"}, err: filepath.Join(dir, "nope") + ", which does not exist"},
		{name: "no way out of the directory", c: Container{Image: "r/.."}, err: "DIR/NAME"},
		{name: "all ways are named", c: Container{Image: "r/nope"}, err: "give the container a command; or pass --exec r/nope=PATH; or "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			argv, builtin, err := images.Resolve(&tc.c)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("Resolve(%q) error = %v, want one with %q", tc.c.Image, err, tc.err)
				}
				return
			}
			if err != nil || builtin != tc.builtin || !slices.Equal(argv, tc.argv) {
				t.Errorf("Resolve(%q) = %q, %q, %v, want %q, %q", tc.c.Image, argv, builtin, err, tc.argv, tc.builtin)
			}
		})
	}
}

func TestParseExec(t *testing.T) {
	got, err := ParseExec([]string{"a=b", "c*=./d=e", "a=b"})
	if err != nil || got["a"] != "b" || got["c*"] != "./d=e" {
		t.Errorf("ParseExec = %v, %v", got, err)
	}
	for _, bad := range [][]string{{"a"}, {"=b"}, {"a="}, {"a=b", "a=c"}} {
		if _, err := ParseExec(bad); err == nil {
			t.Errorf("ParseExec(%q) succeeded, want an error", bad)
		}
	}
}

// TestGlobProperty compares glob with the plain recursive definition.
func TestGlobProperty(t *testing.T) {
	var slow func(p, s string) bool
	slow = func(p, s string) bool {
		switch {
		case p == "":
			return s == ""
		case p[0] == '*':
			return slow(p[1:], s) || (s != "" && slow(p, s[1:]))
		}
		return s != "" && p[0] == s[0] && slow(p[1:], s[1:])
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringMatching(`[ab/*]{0,8}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab/]{0,10}`).Draw(t, "text")
		if got, want := glob(p, s), slow(p, s); got != want {
			t.Fatalf("glob(%q, %q) = %t, want %t", p, s, got, want)
		}
	})
}
