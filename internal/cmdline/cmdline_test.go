package cmdline

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
)

func TestCode(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {boom, Failed}, {Misuse(nil), 0}, {Misuse(boom), Misused}, {fmt.Errorf("run: %w", Misusef("-n %d", 0)), Misused},
	} {
		if got := Code(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if err := Misuse(boom); !errors.Is(err, boom) || err.Error() != "boom" {
		t.Errorf("misuse hides its cause: %v", err)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, args, arg, err, printed string
		own                           bool // help of its own
	}{
		{name: "all is said", args: "-n 3 topic", arg: "topic"},
		{name: "no argument", args: "-n 3", err: "name one topic, after the flags; see rouse lag -h"},
		{name: "two arguments", args: "a b", err: "name one topic, after the flags; see rouse lag -h"},
		{name: "a flag after the argument", args: "a -n 3", err: "name one topic, after the flags; see rouse lag -h"},
		{name: "unknown flag", args: "-m 3 topic", err: "flag provided but not defined: -m; see rouse lag -h"},
		{name: "wrong value", args: "-n x topic", err: `invalid value "x" for flag -n: parse error; see rouse lag -h`},
		{name: "help", args: "-h", err: flag.ErrHelp.Error(), printed: "Usage of rouse lag:\n  -n int"},
		{name: "help of its own", args: "--help", err: flag.ErrHelp.Error(), printed: "ask again", own: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			fs := flag.NewFlagSet("rouse lag", flag.ContinueOnError)
			fs.SetOutput(&out)
			fs.Int("n", 1, "how many")
			if c.own {
				fs.Usage = func() { fmt.Fprint(fs.Output(), "ask again") }
			}
			arg, err := ParseArg(fs, strings.Fields(c.args), "topic")
			if arg != c.arg || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("%q, %v, want %q, %q", arg, err, c.arg, c.err)
			}
			if got := out.String(); c.printed == "" && got != "" || !strings.HasPrefix(got, c.printed) {
				t.Errorf("printed %q, want %q", got, c.printed)
			}
			if help := errors.Is(err, flag.ErrHelp); err != nil && !help && Code(err) != Misused {
				t.Errorf("%v is no misuse", err)
			}
		})
	}
}

func TestParseTakesOnlyFlags(t *testing.T) {
	for args, want := range map[string]string{"-n 3": "", "-n 3 more": `"more": there are only flags; see rouse bench -h`} {
		fs := flag.NewFlagSet("rouse bench", flag.ContinueOnError)
		fs.Int("n", 1, "how many")
		if err := Parse(fs, strings.Fields(args)); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
