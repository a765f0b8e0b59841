// Package usage measures what an application uses of CPU and memory: a process tree by /proc, a container by its
// cgroup (version 2).
//
// CPU is the time that was used between two looks, in cores; memory is what is resident at the look. A tree counts
// children that have ended as long as somebody in it waited for them, and counts pages that processes share once for
// each of them, as ps does. A cgroup's memory is its working set: without the file pages that the kernel would drop
// first, as the kubelet has it.
//
// It starts nothing and keeps only the last look. A [Meter] belongs to one goroutine; a [Table] is safe for concurrent
// use and reads /proc once for all meters that look at about the same time. Linux only.
package usage

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/localpods/procfs"
)

// Sample is what an application has used by a moment.
type Sample struct {
	// CPU is the time used since the application began.
	CPU time.Duration
	// Memory is what it holds now, in bytes.
	Memory uint64
}

// Source reads samples of one application.
type Source interface {
	// Sample fails when the application is gone or may not be looked at.
	Sample(now time.Time) (Sample, error)
}

// Meter turns the samples of one source into a rate. Make one with [NewMeter].
type Meter struct {
	source Source
	last   Sample
	at     time.Time // zero before the first sample
}

// NewMeter returns a meter that has not looked yet.
func NewMeter(s Source) *Meter { return &Meter{source: s} }

// Measure returns the cores used since the last call, 0 at the first, and the bytes held now. When the source fails it
// returns zeros and begins anew.
func (m *Meter) Measure(now time.Time) (cores, bytes float64) {
	s, err := m.source.Sample(now)
	if err != nil {
		m.at = time.Time{}
		return 0, 0
	}
	// A process that nobody in the tree waited for takes its time with it: then the sum falls.
	if passed := now.Sub(m.at); !m.at.IsZero() && passed > 0 && s.CPU > m.last.CPU {
		cores = float64(s.CPU-m.last.CPU) / float64(passed)
	}
	m.last, m.at = s, now
	return cores, float64(s.Memory)
}

const (
	// tick is the unit of times in /proc: USER_HZ, which is 100 on every architecture that Go runs on.
	tick = time.Second / 100
	// fresh is how old a picture of the process table may be.
	fresh = 400 * time.Millisecond
)

// Table is the process table, read at most once per 400 ms. The zero value is ready.
type Table struct {
	mu    sync.Mutex
	procs []procfs.Process // guarded by mu; never written to once there
	at    time.Time        // guarded by mu
}

// read returns the table as it was at most fresh ago, and when that was.
func (t *Table) read(now time.Time) ([]procfs.Process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if age := now.Sub(t.at); t.procs != nil && age >= 0 && age < fresh {
		return t.procs, nil
	}
	procs, err := procfs.Processes()
	if err != nil {
		return nil, err
	}
	t.procs, t.at = procs, now
	return procs, nil
}

// Tree returns the source of a process with its descendants.
func (t *Table) Tree(pid int) Source { return &tree{table: t, pid: pid} }

// tree is a process with its descendants.
type tree struct {
	table *Table
	pid   int
	birth uint64 // of the process, 0 before it was seen: another one of its number is a stranger
}

var errGone = errors.New("the process is gone")

// Sample implements Source.
func (t *tree) Sample(now time.Time) (Sample, error) {
	procs, err := t.table.read(now)
	if err != nil {
		return Sample{}, fmt.Errorf("usage: %w", err)
	}
	var s Sample
	seen := false
	for _, p := range procfs.Tree(procs, t.pid) {
		if p.PID == t.pid {
			if t.birth != 0 && p.Start != t.birth {
				break
			}
			t.birth, seen = p.Start, true
		}
		s.CPU += time.Duration(p.Ticks) * tick
		s.Memory += p.Resident * uint64(os.Getpagesize())
	}
	if !seen {
		return Sample{}, fmt.Errorf("usage: process %d: %w", t.pid, errGone)
	}
	return s, nil
}
