package localpods

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/identity"
)

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	Starting  EventKind = iota // a pod's process was started
	Ready                      // a pod answers its probe
	Unready                    // a ready pod no longer answers its probe, and is out of rotation until it does
	WrongPort                  // a pod listens, but not on PORT
	Exited                     // a pod's process ended, or could not be started, without being asked to
	Failing                    // a revision has no ready pod and little hope of one
	Stopped                    // a pod that was asked to stop is gone
)

// String returns the kind's name as logs write it.
func (k EventKind) String() string {
	return [...]string{"starting", "ready", "unready", "wrong port", "exited", "failing", "stopped"}[k]
}

// Event is something that a person who watches a revision wants to know.
type Event struct {
	Kind     EventKind
	Time     time.Time
	Revision identity.Revision
	PodUID   string // empty for Failing
	PID      int    // of the user process; 0 when there is none
	// After is the time since the pod's process was started: until it was ready, exited or stopped.
	After time.Duration
	// Status says how the process ended, in words: "exit status 3", "signal: killed". For Exited.
	Status string
	// Tail holds the last lines that the pod wrote. For Exited.
	Tail []string
	// Retry is when the pod will be replaced, counted from Time. For Exited.
	Retry time.Duration
	// Reason explains a Failing, Unready or WrongPort event in one sentence.
	Reason string
	// Port is the PORT that the process was given. For WrongPort and Ready.
	Port uint16
	// Listens is where the process listens instead. For WrongPort.
	Listens []netip.AddrPort
}

// Health is the state of one revision's pods.
type Health struct {
	Starting int
	Ready    int
	Draining int
	// Crashes counts the pods that failed in a row.
	Crashes int
	// Failing is true from a Failing event until a pod is ready, or until a start is tried again after the revision
	// had been at zero.
	Failing bool
	// Reason says what went wrong last: set when Failing, and before that as soon as something is known. It is cleared
	// when a pod is ready.
	Reason string
}

// Stats says what probing has cost so far.
type Stats struct {
	// Probes counts the tries of all pods.
	Probes uint64
	// ProbeCPU is the CPU time that the tries took.
	ProbeCPU time.Duration
	// Started counts the user processes started, PortRetries those that were started again because their port was taken.
	Started     uint64
	PortRetries uint64
}

// Line is one line of a process's output.
type Line struct {
	Time     time.Time
	Revision identity.Revision
	PodUID   string
	// Container is "user" or "queue-proxy".
	Container string
	// Stderr is true for standard error.
	Stderr bool
	Text   string // without its line feed
}

// PrefixWriter returns an Output for Deps that writes each line to w behind the name of its pod, whole lines at a time.
// Errors of w are dropped: a closed terminal must not stop the pods.
func PrefixWriter(w io.Writer) func(Line) {
	var mu sync.Mutex
	return func(l Line) {
		mu.Lock()
		defer mu.Unlock()
		if l.Container == containerUser {
			fmt.Fprintf(w, "[%s] %s\n", l.PodUID, l.Text)
			return
		}
		fmt.Fprintf(w, "[%s %s] %s\n", l.PodUID, l.Container, l.Text)
	}
}
