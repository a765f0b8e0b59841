package control

import (
	"context"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// ScaleTarget sets how many pods a revision has: local processes, a scale subresource.
type ScaleTarget interface {
	// Apply asks for Desired pods and returns when the request is accepted; it does not wait for pods to be ready.
	// It is idempotent. The loop calls it for one revision at a time. After an error the loop asks again with its
	// next decision.
	Apply(ctx context.Context, r Request) error
}

// Request is what a ScaleTarget is asked for.
type Request struct {
	Revision identity.Revision
	// Desired is how many pods there should be, From how many were asked for before.
	Desired int
	From    int
	// Victims are the UIDs of the pods that should go when there are fewer, idlest first: as many as go.
	Victims []string
	// Reason explains the number in words.
	Reason string
	// Decision is the whole decision.
	Decision kpa.Decision
}

// ModeTarget says who carries a revision's traffic. Without one, every request comes through an activator.
type ModeTarget interface {
	// SetMode changes the routes and returns when every router has acknowledged: from then on no request takes the
	// old way. It is called for one revision at a time.
	SetMode(ctx context.Context, r ModeRequest) error
	// ActivatorAnswers asks the revision's public address whether an activator is behind it.
	ActivatorAnswers(ctx context.Context, rev identity.Revision) (bool, error)
}

// ModeRequest is what a ModeTarget is asked for.
type ModeRequest struct {
	Revision identity.Revision
	Mode     kpa.Mode
	// Activators is how many activators should carry the traffic in mode proxy; which ones is the target's choice,
	// the same for equal revisions and activators.
	Activators int
}

// PodSource tells which pods a revision has. [endpoint.Book] is one.
type PodSource interface {
	// Subscribe calls fn with the present pods before it returns and with every change after that, in order. Once
	// cancel has returned fn is not called again.
	Subscribe(rev identity.Revision, fn func(endpoint.Update)) (cancel func())
}

// ActivatorSource tells by another way than reports what activators have in hand.
type ActivatorSource interface {
	// Unheard returns how many requests of a revision, parked and in flight, those activators have for which heard says no;
	// it is given the name that an activator reports by. connected is false when there is no activator to tell. It must not
	// block, nor call the loop.
	Unheard(rev identity.Revision, heard func(activator string) bool) (requests int, connected bool)
}

// Ownership says for which revisions this instance applies what it decides. Two owners for a moment do no harm: they
// decide from the same load and ask for the same numbers.
type Ownership interface {
	Owns(rev identity.Revision) bool
}

// Target is where the decisions about one revision go.
type Target struct {
	// Scale sets the number of pods. Required.
	Scale ScaleTarget
	// Mode changes who carries the traffic; nil when that is always an activator.
	Mode ModeTarget
	// Replicas is what the scale is set to when the revision is added.
	Replicas int
	// New says that these pods were asked for with the revision: none of them carries anything yet. Pods that were there
	// before it are kept for a stable window, whatever is reported of their load.
	New bool
	// AtOnce is how many pods can start at the same time without one delaying the other, when all of them run on one
	// machine: twice its cores is a good value. 0: they run on many. Drain-aware bursts heed it, and Pace: after how long
	// one more may be started beyond those, 5 ms when it is 0.
	AtOnce int
	Pace   time.Duration
}

// Kind says what an Event is about.
type Kind uint8

// The kinds of events.
const (
	Waking      Kind = iota // demand met a revision without pods
	Scaled                  // the number of pods was changed, from above zero to above zero
	Asleep                  // the last pod goes
	PanicBegins             // the panic window asks for much more than there is
	PanicEnds               // a stable window passed without that
	ModeChanged             // another side carries the traffic
	ApplyFailed             // a target refused
)

// String returns the kind as logs write it.
func (k Kind) String() string {
	return [...]string{"waking", "scaled", "asleep", "panic begins", "panic ends", "mode changed", "apply failed"}[k]
}

// Event is something about a revision that a person may care about.
type Event struct {
	Time     time.Time
	Kind     Kind
	Revision identity.Revision
	Service  string
	// From and To are pods, for Waking, Scaled, Asleep and ApplyFailed.
	From, To int
	// Mode is the new one, for ModeChanged.
	Mode kpa.Mode
	// Reason says why, in words.
	Reason string
	// Err is what the target said, for ApplyFailed.
	Err error
}

// Observer is told of events, one at a time, in order. It should return soon: the loop does not wait for it, but keeps
// a bounded number of events and drops the oldest beyond that.
type Observer func(Event)
