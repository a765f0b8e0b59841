package up

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/simulate"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/metrics"
)

// tape records one service for `rouse simulate`. A nil tape records nothing. It is safe for concurrent use.
type tape struct {
	service string // empty: the first one that is named
	file    *os.File
	out     *simulate.Recorder
	rev     atomic.Pointer[identity.Revision]
}

// newTape opens the file of --record.
func newTape(record string) (*tape, error) {
	if record == "" {
		return nil, nil
	}
	service, path, named := strings.Cut(record, "=")
	if !named {
		service, path = "", record
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--record: %w", err)
	}
	return &tape{service: service, file: f, out: simulate.NewRecorder(f, time.Now())}, nil
}

// follow makes a new revision of the recorded service the one that is recorded.
func (t *tape) follow(rev identity.Revision, service string) {
	if t == nil || t.service != "" && t.service != service || t.service == "" && t.rev.Load() != nil {
		return
	}
	t.rev.Store(&rev)
}

func (t *tape) records(rev identity.Revision) bool {
	if t == nil {
		return false
	}
	r := t.rev.Load()
	return r != nil && *r == rev
}

func (t *tape) request(rev identity.Revision, o activator.Outcome) {
	if t.records(rev) {
		t.out.Request(o.Arrived, o.Worked)
	}
}

// stats returns a sink that also notes when the reports of load fall, and then passes them on.
func (t *tape) stats(to activator.StatSink) activator.StatSink {
	if t == nil {
		return to
	}
	return reportTape{t, to}
}

// reportTape is the sink of stats.
type reportTape struct {
	tape *tape
	to   activator.StatSink
}

// Report implements activator.StatSink.
func (r reportTape) Report(m metrics.Message) {
	if rev := r.tape.rev.Load(); rev != nil && rev.UID == m.Stat.Extension.RevisionUID {
		r.tape.out.Report(time.Now())
	}
	r.to.Report(m)
}

func (t *tape) pod(e localpods.Event) {
	if e.Kind == localpods.Ready && t.records(e.Revision) {
		t.out.Start(e.Time.Add(-e.After), e.After)
	}
}

func (t *tape) decision(e control.Event, pods endpoint.Snapshot) {
	switch e.Kind {
	case control.Waking, control.Scaled, control.Asleep:
		if t.records(e.Revision) {
			t.out.Decision(e.Time, e.To, pods.Count(endpoint.Ready))
		}
	default:
	}
}

func (t *tape) close() error {
	if t == nil {
		return nil
	}
	return errors.Join(t.out.Close(), t.file.Close())
}
