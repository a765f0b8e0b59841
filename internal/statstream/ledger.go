package statstream

import (
	"maps"
	"sync"
	"time"

	"github.com/rousehq/rouse/metrics"
)

// Life of the ledger's entries.
const (
	forgetAfter = 5 * time.Minute
	sweepEvery  = time.Minute
)

// twinAfter is how long after its successor a producer's last reports may come, by whatever way. One that goes on for longer
// has not ended: it has the successor's name.
const twinAfter = 10 * time.Second

// ledger knows the last report of every pod about every revision, whichever stream it came on. A producer may change
// streams, and two streams of it may overlap for a moment.
type ledger struct {
	mu      sync.Mutex
	entries map[slot]*line       // guarded by mu
	swept   time.Time            // guarded by mu
	twins   map[string]time.Time // when it was said that two have a name, guarded by mu
	gaps    uint64               // reports that are missing, guarded by mu
	dups    uint64               // guarded by mu
	stale   uint64               // guarded by mu
}

type line struct {
	producer string
	former   string // the producer before: what it sends from now on is late
	sequence uint64
	seen     time.Time
	since    time.Time // when this producer came after the former one
}

// admit says whether a report is news. One without an extension always is.
func (l *ledger) admit(m *metrics.Message, now time.Time) bool {
	e := &m.Stat.Extension
	if e.Version == 0 || e.Producer == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	s := slot{m.Key(), m.Stat.PodName}
	at := l.entries[s]
	if at == nil {
		l.entries[s] = &line{producer: e.Producer, sequence: e.Sequence, seen: now}
		return true
	}
	switch {
	case e.Producer == at.former:
		l.stale++
		return false
	case e.Producer != at.producer:
		*at = line{producer: e.Producer, former: at.producer, sequence: e.Sequence, seen: now, since: now}
		return true
	case e.Sequence <= at.sequence:
		l.dups++
		return false
	}
	l.gaps += e.Sequence - at.sequence - 1
	at.sequence, at.seen = e.Sequence, now
	return true
}

// twin says whether a report that was not admitted shows that two processes have one name, which is to be said: once for
// each name, and again while it lasts.
func (l *ledger) twin(m *metrics.Message, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.entries[slot{m.Key(), m.Stat.PodName}]
	if at == nil || m.Stat.Extension.Producer != at.former || now.Sub(at.since) <= twinAfter {
		return false
	}
	if _, said := l.twins[m.Stat.PodName]; said {
		return false
	}
	if l.twins == nil {
		l.twins = map[string]time.Time{}
	}
	l.twins[m.Stat.PodName] = now
	return true
}

// sweep forgets who has been silent for long; the caller holds mu.
func (l *ledger) sweep(now time.Time) {
	if l.entries == nil {
		l.entries, l.swept = make(map[slot]*line), now
	}
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for s, at := range l.entries {
		if now.Sub(at.seen) > forgetAfter {
			delete(l.entries, s)
		}
	}
	maps.DeleteFunc(l.twins, func(_ string, said time.Time) bool { return now.Sub(said) > forgetAfter })
}

func (l *ledger) counts() (gaps, dups, stale uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gaps, l.dups, l.stale
}
