package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	env := func(string) string { return "" }
	for _, tc := range []struct{ args, want, fails string }{
		{"adopt hello", "adopt default/hello 1m0s", ""},
		{"release -n web hello --timeout 5s", "release web/hello 5s", ""},
		{"adopt hello --namespace web", "adopt web/hello 1m0s", ""},
		{"", "", "adopt or release"},
		{"remove hello", "", "adopt or release"},
		{"adopt", "", "which Service"},
		{"adopt a b", "", "one Service at a time"},
		{"adopt --nope a", "", "nope"},
	} {
		o, err := parse(strings.Fields(tc.args), env, io.Discard)
		if tc.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("parse(%q) = %v, want an error with %q", tc.args, err, tc.fails)
			}
			continue
		}
		if got := o.verb + " " + o.namespace + "/" + o.service + " " + o.timeout.String(); err != nil || got != tc.want {
			t.Errorf("parse(%q) = %s, %v, want %s", tc.args, got, err, tc.want)
		}
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"adopt"}, func(string) string { return "" }, io.Discard, &out); code != 2 || !strings.Contains(out.String(), "usage:") {
		t.Errorf("exit %d, said %q; want 2 and the usage", code, &out)
	}
	out.Reset()
	missing := func(string) string { return "/does/not/exist" }
	if code := run(t.Context(), []string{"adopt", "x"}, missing, io.Discard, &out); code != 1 || !strings.Contains(out.String(), "KUBECONFIG") {
		t.Errorf("exit %d, said %q; want 1 and the file", code, &out)
	}
}
