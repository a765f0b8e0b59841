package main

import (
	"io/fs"
	"strconv"
	"strings"
)

// What is left of a container's memory for what the Go runtime does not count: the binary's pages and the kernel's.
const memoryShare = 0.9

// memoryLimit returns the memory that the runtime should stay within, 0 for no limit: a share of the container's, so
// that the collector works harder before the kernel ends the process. GOMEMLIMIT, when set, is the runtime's business.
//
// The other two settings are right as they are. GOMAXPROCS follows the container's CPU limit since Go 1.25, and is no
// less than 2, so that a tenth of a CPU does not serialize the collector with requests. GOGC stays at 100: serving
// allocates nothing in steady state, and a larger value would only grow the memory that TLS and HTTP/2 leave behind.
func memoryLimit(root fs.FS, gomemlimit string) int64 {
	if gomemlimit != "" {
		return 0
	}
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue // the other version of cgroups, or none
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n > 0 && n < 1<<50 { // version 1 writes a huge number for no limit, version 2 a word
			return int64(float64(n) * memoryShare)
		}
	}
	return 0
}
