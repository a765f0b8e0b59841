// Command citest runs `go test` for CI: it prints what failed with its output, one line per package, and holds the
// number of executed tests against a checked-in minimum. A skipped test or a suite that shrank is a failure. At the end it says
// again, in a few lines, what failed and what took long: logs are cut at their beginning.
//
//	citest -suite NAME -min FILE [-update] -- go test -race ./...
//
// FILE has lines "suite count". With -update the count found is written there when everything passed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// event is a line of test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string
}

// tally is what a run showed.
type tally struct {
	passed, failed int
	skipped        []string
	output         map[string]*strings.Builder // by package and test, until it passes
	causes         []string                    // a line or a few for each test that failed
	slow           []event                     // tests that took long
}

// What the end says.
const (
	slowest   = 5  // tests at most
	slow      = 10 // seconds at least
	causeSize = 4  // lines of a test that failed
)

func run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("citest", flag.ContinueOnError)
	fs.SetOutput(stderr)
	suite := fs.String("suite", "", "name of the suite in the minimum file")
	file := fs.String("min", ".ci/tests.min", "file of minimums")
	update := fs.Bool("update", false, "write the count found as the new minimum")
	if err := fs.Parse(args); err != nil || fs.NArg() < 3 || *suite == "" {
		fmt.Fprintln(stderr, "usage: citest -suite NAME -min FILE [-update] -- go test ...")
		return 2
	}
	t, err := goTest(fs.Args(), stdout, stderr)
	t.sum(stdout)
	fmt.Fprintf(stdout, "%s: %d passed, %d failed, %d skipped\n", *suite, t.passed, t.failed, len(t.skipped))
	if verdict := t.judge(err, *suite, *file, *update); verdict != nil {
		fmt.Fprintln(stderr, "citest:", verdict)
		return 1
	}
	return 0
}

func goTest(args []string, stdout, stderr io.Writer) (*tally, error) {
	i := slices.Index(args, "test")
	if i < 0 {
		return &tally{}, fmt.Errorf("no `test` in %q", args)
	}
	args = slices.Insert(slices.Clone(args), i+1, "-json")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return &tally{}, err
	}
	if err := cmd.Start(); err != nil {
		return &tally{}, err
	}
	t := &tally{output: make(map[string]*strings.Builder)}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(stdout, lines.Text())
			continue
		}
		t.take(e, stdout)
	}
	return t, cmd.Wait()
}

// take counts one event and prints what a person wants to see of it.
func (t *tally) take(e event, stdout io.Writer) {
	key := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if t.output[key] == nil {
			t.output[key] = &strings.Builder{}
		}
		t.output[key].WriteString(e.Output)
	case "pass", "skip", "fail", "build-fail":
		t.end(e, key, stdout)
	}
}

func (t *tally) end(e event, key string, stdout io.Writer) {
	if e.Elapsed >= slow && e.Test != "" && !strings.Contains(e.Test, "/") {
		t.slow = append(t.slow, e)
	}
	switch {
	case e.Action == "fail" || e.Action == "build-fail":
		if e.Test != "" {
			t.failed++
		}
		if b := t.output[key]; b != nil {
			fmt.Fprint(stdout, b.String())
			t.blame(e, b.String())
		}
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(stdout, "ok   %s %.1fs\n", e.Package, e.Elapsed)
	case e.Test == "":
		// A package without test files.
	case e.Action == "skip":
		t.skipped = append(t.skipped, e.Package+" "+e.Test)
	default:
		t.passed++
	}
	delete(t.output, key)
}

// complaint is a line that t.Error and the like, a panic or the race detector write.
var complaint = regexp.MustCompile(`^\s*\w+_test\.go:\d+: |^panic: |^fatal error: |^WARNING: DATA RACE`)

// blame keeps the lines in which a test that failed says why, without the logs around them.
func (t *tally) blame(e event, output string) {
	if e.Test == "" {
		return
	}
	lines := []string{"failed: " + e.Package + " " + e.Test}
	for l := range strings.Lines(output) {
		if complaint.MatchString(l) && len(lines) <= causeSize {
			lines = append(lines, strings.TrimRight(l, "\n"))
		}
	}
	t.causes = append(t.causes, strings.Join(lines, "\n"))
}

// sum says again what matters.
func (t *tally) sum(stdout io.Writer) {
	slices.SortStableFunc(t.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range t.slow[:min(slowest, len(t.slow))] {
		fmt.Fprintf(stdout, "slow: %s %.0fs\n", e.Test, e.Elapsed)
	}
	for _, c := range t.causes {
		fmt.Fprintln(stdout, c)
	}
}

// judge says what is wrong with the run, nil when nothing is.
func (t *tally) judge(err error, suite, file string, update bool) error {
	if err != nil {
		return fmt.Errorf("suite %s failed: %w", suite, err)
	}
	if t.failed > 0 {
		return fmt.Errorf("suite %s failed", suite)
	}
	if len(t.skipped) > 0 {
		return fmt.Errorf("suite %s skipped %s: a skipped test proves nothing", suite, strings.Join(t.skipped, ", "))
	}
	minimums, err := os.ReadFile(file)
	if err != nil && !update {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(minimums)), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, suite+" ") })
	if update {
		entry := suite + " " + strconv.Itoa(t.passed)
		if at < 0 {
			lines = append(lines, entry)
		} else {
			lines[at] = entry
		}
		return os.WriteFile(file, []byte(strings.TrimSpace(strings.Join(lines, "\n"))+"\n"), 0o644)
	}
	if at < 0 {
		return fmt.Errorf("%s has no minimum for suite %s: run with -update", file, suite)
	}
	least, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(lines[at], suite+" ")))
	if err != nil {
		return fmt.Errorf("%s: suite %s: %w", file, suite, err)
	}
	if t.passed < least {
		return fmt.Errorf("suite %s ran %d tests, the minimum in %s is %d", suite, t.passed, file, least)
	}
	return nil
}
