package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// Cgroup returns the source of a control group, given as its folder: os.DirFS("/sys/fs/cgroup/…"). It is of version 2:
// version 1 has no one folder for both, and Kubernetes no longer runs on it.
func Cgroup(folder fs.FS) Source { return cgroup{folder} }

type cgroup struct{ folder fs.FS }

// Sample implements Source.
func (c cgroup) Sample(time.Time) (Sample, error) {
	used, err := c.entry("cpu.stat", "usage_usec")
	if err != nil {
		return Sample{}, err
	}
	held, err := c.entry("memory.current", "")
	if err != nil {
		return Sample{}, err
	}
	idle, err := c.entry("memory.stat", "inactive_file")
	if err != nil && !errors.Is(err, errNoEntry) {
		return Sample{}, err
	}
	return Sample{CPU: time.Duration(used) * time.Microsecond, Memory: held - min(held, idle)}, nil //nolint:gosec // 292,000 years
}

var errNoEntry = errors.New("no such entry")

// entry reads the number behind a name in a file of "name number" lines, or a file that is one number.
func (c cgroup) entry(file, name string) (uint64, error) {
	b, err := fs.ReadFile(c.folder, file)
	if err != nil {
		return 0, fmt.Errorf("usage: %w", err)
	}
	n, err := parseEntry(b, name)
	if err != nil {
		return 0, fmt.Errorf("usage: %s: %w", file, err)
	}
	return n, nil
}

func parseEntry(b []byte, name string) (uint64, error) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		switch {
		case name == "" && len(f) == 1:
			return strconv.ParseUint(string(f[0]), 10, 64)
		case name != "" && len(f) == 2 && string(f[0]) == name:
			return strconv.ParseUint(string(f[1]), 10, 64)
		}
	}
	return 0, fmt.Errorf("%w: %q", errNoEntry, name)
}
