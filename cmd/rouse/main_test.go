package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/sampleapp"
)

// TestMain makes this test binary serve as the program that runs the built-in samples.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "sample" {
		if err := sampleapp.Main(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is a running rouse.
type program struct {
	t       *testing.T
	signals chan os.Signal
	code    chan int

	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func launch(t *testing.T, args ...string) *program {
	p := &program{t: t, signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	go func() { p.code <- run(args, p.signals, strings.NewReader(""), p, p) }()
	return p
}

// shows waits until the output matches and returns the first group.
func (p *program) shows(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := re.FindStringSubmatch(p.text()); m != nil {
			return m[1]
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("the output never showed %s:\n%s", pattern, p.text())
		}
	}
}

// call runs a command to its end.
func call(t *testing.T, args ...string) (string, int) {
	p := launch(t, args...)
	code := <-p.code
	return p.text(), code
}

// TestUpIsDrivenByItsOtherCommands goes through a life: up, a request, status, logs, apply, explain, stop.
func TestUpIsDrivenByItsOtherCommands(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := launch(t, "up", "-f", "../../examples/hello.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data, "-v")
	addr := p.shows(`curl -H 'Host: hello.default.example.com' http://(\S+)/`)
	req, err := http.NewRequest(http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "hello.default.example.com"
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "Hello Rouse!") {
		t.Fatalf("got %s %q %v, want the greeting", res.Status, body, err)
	}
	p.shows(`hello: (waking), 0→1`)
	p.shows(`hello: (ready) in \d+ ms`)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status", "--data", data}, "default/hello  hello-00001  100%"},
		{[]string{"status", "--json", "--data", data}, `"percent":100`},
		{[]string{"logs", "hello", "--data", data}, ""},
		{[]string{"apply", "-f", "../../examples/hello.yaml", "--data", data}, "default/hello: revision hello-00001 unchanged"},
	} {
		if out, code := call(t, c.args...); code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%q: exit %d, %q; want 0 and %q", c.args, code, out, c.want)
		}
	}
	if out, code := call(t, "stop", "--data", data); code != 0 {
		t.Errorf("stop: exit %d, %q", code, out)
	}
	if code := <-p.code; code != 0 {
		t.Errorf("up ended with %d, want 0:\n%s", code, p.text())
	}
}

func TestASignalDrains(t *testing.T) {
	p := launch(t, "up", "-f", "../../examples/hello.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "")
	p.shows(`(try it)`)
	p.signals <- syscall.SIGTERM
	p.signals <- syscall.SIGTERM // the same hand, at once: still one wish
	if code := <-p.code; code != 0 {
		t.Errorf("exit %d, want 0:\n%s", code, p.text())
	}
}

func TestWrongCallsNameTheRemedy(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"up"}, 2, "-f FILE"},
		{[]string{"up", "-f", missing}, 1, missing},
		{[]string{"up", "--no-such-flag"}, 2, "no-such-flag"},
		{[]string{"up", "-f", "../../examples/hello.yaml", "--set", "max-scle=5"}, 2, "did you mean max-scale?"},
		{[]string{"up", "app.yaml"}, 2, `"app.yaml": manifests are given by --file`},
		{[]string{"apply", "app.yaml"}, 2, `"app.yaml": manifests are given by --file`},
		{[]string{"render", "app.yaml"}, 2, `"app.yaml": manifests are given by --file`},
		{[]string{"up", "-f", "../../examples/hello.yaml", "--exec", "rouse.dev/samples/hello=" + missing}, 1, "put a program at " + missing},
		{[]string{"up", "-f", "../../examples/hello.yaml", "--exec", "rouse.dev/samples/hello=no-such-program"}, 1, "no program of that name is in PATH"},
		{[]string{"inject", "-f", missing}, 1, missing},
		{[]string{"logs"}, 2, "accepts 1 arg"},
		{[]string{"status", "--data", missing}, 1, "no `rouse up` answers in " + missing},
		{[]string{"apply", "--data", missing}, 2, "-f FILE"},
		{[]string{"bench", "burst", "-n", "0"}, 2, "-n"},
		{[]string{"bench", "burst", "50"}, 2, `"50": there are only flags; see rouse bench burst -h`},
		{[]string{"bench", "coldstart", "-n", "many"}, 2, "see rouse bench coldstart -h"},
		{[]string{"bench", "proxy", "--rounds", "0"}, 2, "--rounds"},
		{[]string{"bench", "parked", "--requests", "0"}, 2, "--requests"},
		{[]string{"bench", "overload", "-rate", "0"}, 2, "-rate"},
		{[]string{"bench", "control", "--pods", "0"}, 2, "--pods"},
		{[]string{"bench", "dispatch", "-order", "chaos"}, 2, "-order"},
		{[]string{"simulate", "--work", "soon"}, 2, "--work"},
		{[]string{"simulate", "--shape", "square"}, 2, "square"},
		{[]string{"simulate", "--set", "max-scle=5"}, 2, "did you mean max-scale?"},
		{[]string{"simulate", "-f", missing}, 1, missing},
		{[]string{"produce"}, 2, "name one topic"},
		{[]string{"consume", "-from", "here", "t"}, 2, "-from"},
		{[]string{"lag", "t"}, 2, "-group"},
		{[]string{"replay-dead-letters", "t"}, 2, "-sink"},
		{[]string{"nonsense"}, 2, "nonsense"},
	} {
		if out, code := call(t, c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%q: exit %d, %q; want %d and %q", c.args, code, out, c.code, c.want)
		}
	}
}

// TestHelpOfEveryCommand: none of them takes help for an error, whoever reads its flags.
func TestHelpOfEveryCommand(t *testing.T) {
	var all func(c *cobra.Command, path []string)
	all = func(c *cobra.Command, path []string) {
		for _, sub := range c.Commands() {
			all(sub, append(slices.Clone(path), sub.Name()))
		}
		if slices.Contains([]string{"adopt", "release", "uninstall", "check", "top"}, c.Name()) { // carried out by another program
			return
		}
		if out, code := call(t, append(path, "--help")...); code != 0 || !strings.Contains(out, "rouse") || strings.HasPrefix(out, "rouse: ") {
			t.Errorf("%q --help: exit %d, %q", path, code, out)
		}
	}
	all(newRoot(nil), nil)
}

// TestAFailedStartDrainsNothing: where nothing ran, nothing is said to finish.
func TestAFailedStartDrainsNothing(t *testing.T) {
	out, code := call(t, "up", "-f", "../../examples/hello.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "", "--set", "max-scale=x")
	if code != 1 || strings.Contains(out, "stopping") || !strings.Contains(out, `--set max-scale = "x"`) {
		t.Errorf("exit %d, %q; want 1 and the flag's fault alone", code, out)
	}
}

// TestExplainOfNobody: one error, in words, and nothing on standard output.
func TestExplainOfNobody(t *testing.T) {
	loop, err := control.New(control.Config{}, control.Deps{Pods: &endpoint.Book{}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(loop.ExplainHandler())
	defer server.Close()
	code, out, errs := command(t, "", "explain", "--admin", server.Listener.Addr().String(), "nope")
	if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "http://") || !strings.Contains(errs, "nope (404 Not Found)") {
		t.Errorf("explain nope = %d, %q, %q; want one line of error", code, out, errs)
	}
}
