package usage

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// realCgroup makes a control group of version 2 in this machine's hierarchy; empty when there is none that may be
// changed.
func realCgroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(f[1], "rouse-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	return ""
}

// burn runs a process that uses CPU, in the control group if there is one, and returns what it used by its own account.
func burn(t *testing.T, dir string) time.Duration {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done")
	if dir != "" {
		group, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer group.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// layered takes what the kernel does not offer in a group (the memory controller may belong to version 1) from a
// recording.
type layered struct{ real, recorded fs.FS }

// Open implements fs.FS.
func (l layered) Open(name string) (fs.File, error) {
	f, err := l.real.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l.recorded.Open(name)
	}
	return f, err
}

// TestCgroupOfThisKernel samples a real group around a real process. Where the kernel lets us make none, the recording
// alone is read.
func TestCgroupOfThisKernel(t *testing.T) {
	dir := realCgroup(t)
	recorded := os.DirFS(filepath.Join("testdata", "cgroup"))
	source := Cgroup(recorded)
	if dir != "" {
		source = Cgroup(layered{os.DirFS(dir), recorded})
	}
	before, err := source.Sample(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	used := burn(t, dir)
	after, err := source.Sample(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := after.CPU - before.CPU
	if dir != "" && (got < used*8/10 || got > used*12/10+20*time.Millisecond) {
		t.Errorf("the group used %v, want what its process used: %v", got, used)
	}
	if dir == "" && got != 0 || after.Memory == 0 && before.Memory == 0 && dir == "" {
		t.Errorf("the recording used %v and holds %d", got, after.Memory)
	}
	t.Logf("group %q: CPU %v of %v, memory %d", dir, got, used, after.Memory)
}
