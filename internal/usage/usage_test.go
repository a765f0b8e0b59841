package usage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestMain makes this binary a child that uses CPU and memory when it is told to.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		child(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// child burns 200 ms of CPU in itself and holds 32 MB for each line that it reads, answers, and ends with its input.
func child(in io.Reader, out io.Writer) {
	var held [][]byte
	for lines := bufio.NewScanner(in); lines.Scan(); {
		b := make([]byte, 32<<20)
		var sum byte
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
			for i := range b {
				b[i]++
				sum += b[i]
			}
		}
		held = append(held, b)
		fmt.Fprintln(out, len(held), sum)
	}
}

// TestTreeOfARealProcess looks at a shell with a child that works.
func TestTreeOfARealProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `"$0" child; exit 0`, self) // the shell stays: something follows
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(out)
	work := func() {
		t.Helper()
		if _, err := fmt.Fprintln(in, "go"); err != nil || !answers.Scan() {
			t.Fatalf("the child does not answer: %v, %v", err, answers.Err())
		}
	}
	work()
	source := (&Table{}).Tree(cmd.Process.Pid)
	began := time.Now()
	before, err := source.Sample(began)
	if err != nil {
		t.Fatal(err)
	}
	work()
	after, err := source.Sample(began.Add(fresh))
	if err != nil {
		t.Fatal(err)
	}
	if before.CPU == 0 || after.CPU <= before.CPU || after.Memory < before.Memory+(24<<20) {
		t.Errorf("before %+v, after %+v, want more CPU and 32 MB more", before, after)
	}
	if cached, err := source.Sample(began.Add(fresh + time.Millisecond)); err != nil || cached != after {
		t.Errorf("Sample a millisecond later = %+v, %v, want the same picture %+v", cached, err, after)
	}
	in.Close()
	if answers.Scan() {
		t.Errorf("unexpected answer %q", answers.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if s, err := source.Sample(began.Add(2 * fresh)); !errors.Is(err, errGone) {
		t.Errorf("Sample of a process that ended = %+v, %v, want errGone", s, err)
	}
}

func TestTreeOfAReusedNumber(t *testing.T) {
	source := (&Table{}).Tree(os.Getpid()).(*tree)
	now := time.Now()
	if _, err := source.Sample(now); err != nil {
		t.Fatal(err)
	}
	source.birth--
	if s, err := source.Sample(now); !errors.Is(err, errGone) {
		t.Errorf("Sample of a stranger = %+v, %v, want errGone", s, err)
	}
}

func TestCgroup(t *testing.T) {
	s, err := Cgroup(os.DirFS("testdata/cgroup")).Sample(time.Now())
	if want := (Sample{CPU: 84213377 * time.Microsecond, Memory: 30 << 20}); err != nil || s != want {
		t.Errorf("Sample = %+v, %v, want %+v", s, err, want)
	}
	good := fstest.MapFS{
		"cpu.stat": {Data: []byte("usage_usec 5\n")}, "memory.current": {Data: []byte("7\n")}, "memory.stat": {Data: []byte("anon 1\n")},
	}
	if s, err := Cgroup(good).Sample(time.Now()); err != nil || s != (Sample{5 * time.Microsecond, 7}) {
		t.Errorf("Sample without inactive_file = %+v, %v", s, err)
	}
	for _, file := range []string{"cpu.stat", "memory.current", "memory.stat"} {
		broken := fstest.MapFS{}
		for name, f := range good {
			if name != file {
				broken[name] = f
			}
		}
		if _, err := Cgroup(broken).Sample(time.Now()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Sample without %s = %v, want it to name the file", file, err)
		}
	}
	good["memory.current"] = &fstest.MapFile{Data: []byte("max\n")}
	if _, err := Cgroup(good).Sample(time.Now()); err == nil || !strings.Contains(err.Error(), "memory.current") {
		t.Errorf("Sample of nonsense = %v, want it to name the file", err)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("usage_usec 5\nuser_usec 3\n"), "usage_usec")
	f.Add([]byte("12\n"), "")
	f.Fuzz(func(_ *testing.T, b []byte, name string) { _, _ = parseEntry(b, name) })
}

// script is a source of given samples; an empty one fails.
type script []Sample

func (s *script) Sample(time.Time) (Sample, error) {
	next := (*s)[0]
	*s = (*s)[1:]
	if next == (Sample{}) {
		return next, errGone
	}
	return next, nil
}

func TestMeter(t *testing.T) {
	m := NewMeter(&script{{time.Second, 10}, {2500 * time.Millisecond, 20}, {2 * time.Second, 5}, {}, {9 * time.Second, 7}, {10 * time.Second, 7}})
	now := time.Unix(1000, 0)
	for i, want := range []struct{ cores, bytes float64 }{{0, 10}, {1.5, 20}, {0, 5}, {0, 0}, {0, 7}, {1, 7}} {
		cores, bytes := m.Measure(now)
		if math.Abs(cores-want.cores) > 1e-9 || bytes != want.bytes {
			t.Errorf("look %d: %g cores, %g bytes, want %+v", i, cores, bytes, want)
		}
		now = now.Add(time.Second)
	}
}

func BenchmarkTree(b *testing.B) {
	b.ReportAllocs()
	var table Table
	source := table.Tree(os.Getpid())
	for now := time.Now(); b.Loop(); now = now.Add(fresh) {
		if _, err := source.Sample(now); err != nil {
			b.Fatal(err)
		}
	}
}
