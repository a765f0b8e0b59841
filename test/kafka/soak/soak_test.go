package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/kafkabroker"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// brokers are the real ones when ROUSE_KAFKA_BOOTSTRAP names some, else an embedded one over TCP.
func brokers(t *testing.T) string {
	if real := os.Getenv("ROUSE_KAFKA_BOOTSTRAP"); real != "" {
		return real
	}
	b, err := kafkabroker.Start(kafkabroker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.String()
}

// The soak in small: dispatchers are killed under load while another member joins and leaves; brokers stay up.
func TestSoak(t *testing.T) {
	var out bytes.Buffer
	errs, text := childErrors(t)
	code := run([]string{"-bootstrap", brokers(t), "-kills", "4", "-every", "800ms", "-rate", "300", "-keys", "60", "-brokers", "1",
		"-log", filepath.Join(t.TempDir(), "sink.log")}, &out, errs)
	if code != 0 || !strings.Contains(out.String(), "4 crashes: lost 0, out of order 0") {
		t.Fatalf("soak ended with %d:\n%s%s", code, out.String(), text())
	}
	t.Log(out.String())
}

// childErrors is a file for what several processes complain of: as in real use they write to it themselves, while a
// buffer would be filled by a goroutine for each.
func childErrors(t *testing.T) (f *os.File, text func() string) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// What the checker says of logs that are wrong.
func TestChecker(t *testing.T) {
	const crashes = `{"At":100,"Read":110,"Before":{"0":{"Offset":1}},"After":{"0":{"Offset":2}}}` + "\n"
	for _, c := range []struct{ name, log, want string }{
		{"all well", "1 got 0 0 k0 0\n2 took 0 0 k0 0\n3 got 0 1 k0 1\n4 took 0 1 k0 1\n", "lost 0, out of order 0, again after a crash 0, of these committed before 0; again for other reasons 0"},
		{"lost", "1 got 0 0 k0 0\n2 took 0 0 k0 0\n3 got 0 1 k0 1\n4 refused 0 1 k0 1\n", "lost 1, out of order 0"},
		{"swapped", "1 got 0 1 k0 1\n2 took 0 1 k0 1\n3 got 0 0 k0 0\n4 took 0 0 k0 0\n", "lost 0, out of order 1"},
		{"again, not committed", "1 took 0 0 k0 0\n4 took 0 1 k0 1\n105 took 0 1 k0 1\n", "again after a crash 1, of these committed before 0"},
		{"again, committed before the crash", "1 took 0 0 k0 0\n4 took 0 1 k0 1\n105 took 0 0 k0 0\n", "again after a crash 1, of these committed before 1"},
		{"again, committed when it was read after the crash", "1 took 0 0 k0 0\n4 took 0 1 k0 1\n120 took 0 1 k0 1\n", "again after a crash 1, of these committed before 1"},
		{"again without a crash", "1 took 0 0 k0 0\n4 took 0 1 k0 1\n5 took 0 1 k0 1\n", "again for other reasons 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			for name, text := range map[string]string{log: c.log, log + ".produced": "2\n", log + ".crashes": crashes} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			err := check(options{log: log, keys: 1}, &out)
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("check said %q, want %q", out.String(), c.want)
			}
			wrong := strings.HasPrefix(c.name, "lost") || c.name == "swapped" || strings.Contains(c.name, "committed b") || strings.Contains(c.name, "committed w")
			if (err != nil) != wrong {
				t.Errorf("check = %v", err)
			}
		})
	}
}
