package front

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestFlagsAreDocumented holds docs/activator.md to the flags, their variables and defaults.
func TestFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/activator.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.SplitSeq(string(page), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 6 && strings.HasPrefix(cells[1], " `--") {
			rows[strings.Trim(cells[1], " `-")] = strings.Trim(cells[2], " `") + " " + strings.Trim(cells[3], " `")
		}
	}
	defaults := map[string]string{}
	for f := range reflect.TypeFor[Options]().Fields() {
		defaults[f.Tag.Get("env")] = f.Tag.Get("envDefault")
	}
	var o Options
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	o.flags(fs)
	fs.VisitAll(func(f *flag.Flag) {
		variable := "ROUSE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		def, known := defaults[variable]
		if !known {
			t.Errorf("--%s has no variable %s", f.Name, variable)
		}
		row, ok := rows[f.Name]
		if delete(rows, f.Name); !ok || !strings.HasPrefix(row, variable+" "+def) {
			t.Errorf("--%s is documented as %q, want %q", f.Name, row, variable+" "+def)
		}
	})
	for name := range rows {
		t.Errorf("docs/activator.md has --%s, which does not exist", name)
	}
}

// TestMetricsAreDocumented holds docs/metrics.md to what the process adds to the activator's own.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Activator process\n")
	section, _, _ = strings.Cut(section, "\n## ")
	r := prometheus.NewRegistry()
	p := &plane{}
	if err := p.observe(r); err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 10)
	r.Describe(descs)
	close(descs)
	n := 0
	for d := range descs {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		if n++; !strings.Contains(section, "| `"+name+"` |") {
			t.Errorf("%s is not in the section", name)
		}
	}
	if rows := strings.Count(section, "\n| `"); rows != n {
		t.Errorf("%d rows for %d metrics", rows, n)
	}
}

func TestOptions(t *testing.T) {
	env := []string{"ROUSE_CONTROL_URLS=ws://a:1,ws://b:1", "ROUSE_STATS_URLS=ws://a:2", "ROUSE_QUEUE_TOTAL=7"}
	o, err := Parse([]string{"--queue-total=9", "--listen", ":1, :2"}, env, os.Stderr)
	if err != nil || o.QueueTotal != 9 || len(o.Control) != 2 || len(o.Listen) != 2 || o.DrainMinimum.Seconds() != 5 || o.Name == "" {
		t.Errorf("Parse = %+v, %v; want flags over variables over defaults", o, err)
	}
	_, err = Parse([]string{"--listen=8080", "--tls-listen=:1", "--token-file=x", "--grace=1s"}, []string{"ROUSE_TOKEN=y", "ROUSE_TRIES=many"}, os.Stderr)
	for _, want := range []string{"--listen", "--cert-dir", "--token-file", "--grace", "--control-urls", "ROUSE_TRIES"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse = %v, want it to name %s", err, want)
		}
	}
}

// TestAddressWithoutBrackets: "$(POD_IP):8080" is what a manifest can say, in either family.
func TestAddressWithoutBrackets(t *testing.T) {
	for in, want := range map[string]string{
		"10.88.0.2:8080": "10.88.0.2:8080", "fd00::a58:2:8080": "[fd00::a58:2]:8080", "[fd00::a58:2]:8080": "[fd00::a58:2]:8080", "::1:80": "[::1]:80",
		"localhost:8080": "localhost:8080", ":8080": ":8080", "": "",
	} {
		if got := bracketed(in); got != want {
			t.Errorf("bracketed(%q) = %q, want %q", in, got, want)
		}
	}
}
