package cli

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFlagsAreDocumented: docs/kafka.md has every command, and with it or for all of them every flag.
func TestFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/kafka.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## By hand\n")
	rows, ofAll, _ := strings.Cut(section, "\nAll of them take ")
	for name, help := range map[string]func(stderr io.Writer) error{
		"produce":             func(w io.Writer) error { return Produce(t.Context(), []string{"-h"}, nil, io.Discard, w) },
		"consume":             func(w io.Writer) error { return Consume(t.Context(), []string{"-h"}, io.Discard, w) },
		"lag":                 func(w io.Writer) error { return Lag(t.Context(), []string{"-h"}, io.Discard, w) },
		"replay-dead-letters": func(w io.Writer) error { return ReplayDeadLetters(t.Context(), []string{"-h"}, io.Discard, w) },
	} {
		var text bytes.Buffer
		if err := help(&text); !errors.Is(err, flag.ErrHelp) || !strings.Contains(text.String(), "\n  rouse "+name+" [FLAGS] TOPIC\n") {
			t.Errorf("%s -h: %v: %s", name, err, &text)
		}
		row := regexp.MustCompile("(?m)^\\| `rouse " + name + " [^`]*TOPIC` \\|.*$").FindString(rows)
		flags := regexp.MustCompile(`(?m)^  (-[a-z-]+)`).FindAllStringSubmatch(text.String(), -1)
		if row == "" || len(flags) == 0 {
			t.Errorf("docs/kafka.md has no row of %s, or it no flags: %s", name, &text)
		}
		for _, f := range flags {
			if named := regexp.MustCompile("[` ]" + f[1] + "[` ]"); !named.MatchString(row) && !named.MatchString(ofAll) {
				t.Errorf("docs/kafka.md lacks %s of %s", f[1], name)
			}
		}
	}
}
