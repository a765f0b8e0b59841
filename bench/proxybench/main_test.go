//go:build linux

package proxybench

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/bench/backend"
	"go.uber.org/goleak"
)

// TestMain lets the test binary stand in for the backend's: it is one when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-listen" {
		if err := serveBackend(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serveBackend(listen string) error {
	addr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	s, err := backend.Listen(addr)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return s.Run(ctx)
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"--quick", "--rounds", "3", "--scenarios", "c1,c64"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.plan.rounds != 3 || o.plan.duration >= 1e9 || strings.Join(o.scenarios, " ") != "c1 c64" {
		t.Errorf("parse = %+v, want 3 rounds chosen by hand and short turns", o)
	}
	full, err := parse(nil, io.Discard)
	if err != nil || full.plan.rounds != 6 || full.limit < 1 {
		t.Errorf("parse() = %+v, %v, want six rounds and a limit", full, err)
	}
}

func TestQuickFitsItsBudget(t *testing.T) {
	p := plan{rounds: 1, warmup: 100 * time.Millisecond, duration: 500 * time.Millisecond}
	for _, c := range []struct{ left, want time.Duration }{
		{time.Minute, 500 * time.Millisecond}, {20 * time.Second, 250 * time.Millisecond}, {-time.Second, 100 * time.Millisecond},
	} {
		if got := p.fit(c.left, 40).duration; got != c.want {
			t.Errorf("fit(%s) = turns of %s, want %s", c.left, got, c.want)
		}
	}
}

func TestMainRefuses(t *testing.T) {
	cases := map[string]struct {
		args []string
		want string
	}{
		"unknown flag":      {[]string{"--fast"}, "not defined"},
		"stray argument":    {[]string{"c64"}, `"c64": there are only flags`},
		"no limit":          {[]string{"--limit", "0"}, "--limit"},
		"no rounds":         {[]string{"--rounds", "0"}, "--rounds"},
		"too many held":     {[]string{"--held", "9999"}, "--held"},
		"held beyond queue": {[]string{"--limit", "10"}, "--held"},
		"unknown scenario":  {[]string{"--scenarios", "c65"}, `--scenarios: there is no "c65"`},
		"unknown contender": {[]string{"--contenders", "apache"}, `--contenders: there is no "apache"`},
		"no source":         {[]string{"--source", "/proc"}, "--source"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--cache", t.TempDir()}, c.args...)
			err := Main(t.Context(), args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Main(%q) = %v, want %q", c.args, err, c.want)
			}
		})
	}
}

func TestMainHelps(t *testing.T) {
	var out bytes.Buffer
	if err := Main(t.Context(), []string{"--help"}, io.Discard, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-quick") {
		t.Errorf("Main(--help) = %v, %q", err, out.String())
	}
}
