package config

import (
	"strings"
	"testing"
	"time"
)

func TestHelp(t *testing.T) {
	var settings struct {
		Name   string        `env:"NAME,required"`
		Pause  time.Duration `env:"PAUSE" envDefault:"5s"`
		Nested struct {
			Count int `env:"COUNT"`
		}
		hidden int
	}
	settings.hidden = 1
	for _, args := range [][]string{nil, {"NAME"}, {"help"}} {
		var out strings.Builder
		if Help(args, "It waits.", &settings, &out) || out.Len() > 0 {
			t.Errorf("Help(%q) = true, %q; want nothing", args, out.String())
		}
	}
	for _, arg := range []string{"-h", "--help", "-help"} {
		var out strings.Builder
		if !Help([]string{"x", arg}, "It waits.", &settings, &out) {
			t.Errorf("Help(%q) = false", arg)
		}
		var words []string
		for line := range strings.Lines(out.String()) {
			words = append(words, strings.Join(strings.Fields(line), " "))
		}
		want := "It waits.||It is configured by its environment:||NAME string, required|PAUSE time.Duration (default 5s)|COUNT int"
		if got := strings.Join(words, "|"); got != want {
			t.Errorf("Help(%q) wrote %q, want %q", arg, got, want)
		}
	}
}
