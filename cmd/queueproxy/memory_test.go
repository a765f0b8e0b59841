package main

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimit(t *testing.T) {
	const v2, v1 = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
	for _, c := range []struct {
		name, file, content, env string
		want                     int64
	}{
		{"version 2", v2, "50000000\n", "", 45_000_000},
		{"version 2 without a limit", v2, "max\n", "", 0},
		{"version 1", v1, "50000000\n", "", 45_000_000},
		{"version 1 without a limit", v1, "9223372036854771712\n", "", 0},
		{"no cgroups", "etc/hosts", "", "", 0},
		{"set by hand", v2, "50000000\n", "20MiB", 0},
	} {
		fsys := fstest.MapFS{c.file: &fstest.MapFile{Data: []byte(c.content)}}
		if got := memoryLimit(fsys, c.env); got != c.want {
			t.Errorf("%s: memoryLimit = %d, want %d", c.name, got, c.want)
		}
	}
}
