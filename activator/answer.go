package activator

import (
	"strconv"
	"time"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// Route is what a [Router] found.
type Route struct {
	Revision identity.Key
	// Answer, when set, may stand in for the revision: see its When.
	Answer *Answer
}

// When says when an [Answer] is given.
type When uint8

// The times of an answer.
const (
	Always      When = iota // the revision is never asked
	WhileCold               // no pod is ready; the revision is not woken: health checks, crawlers
	Placeholder             // no pod is ready; the revision is woken
)

// Answer is a fixed response. It is shared and immutable.
type Answer struct {
	When        When
	Status      int
	ContentType string
	Fields      []Field // at most 8
	Body        string
}

// Field is one header field of an answer.
type Field struct{ Name, Value string }

// standIn gives the answer instead of the revision, when its time has come, and reports whether it did.
func (h *handler) standIn(x forward.Exchange, a *Answer, r *revision) bool {
	if a == nil {
		return false
	}
	if a.When != Always {
		if r == nil || !r.cold() {
			return false
		}
		if a.When == Placeholder {
			h.began(r, x.Received())
			defer func() { r.load.Out(time.Now(), false) }()
		}
	}
	for _, f := range a.Fields {
		x.SetResponse(f.Name, f.Value)
	}
	x.Reply(a.Status, a.ContentType, a.Body)
	return true
}

// cold reports that no pod is ready.
func (r *revision) cold() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready() == 0
}

// Headers that tell a client what the activator did, when they are switched on.
const (
	headerColdStart    = "X-Rouse-Cold-Start"
	headerServerTiming = "Server-Timing"
)

// announce tells the client how long its request was parked, and whether it met no pod.
func (h *handler) announce(x forward.Exchange, cold bool, parked time.Duration) {
	if h.cfg.ColdStartHeader && cold {
		x.SetResponse(headerColdStart, "true")
	}
	if h.cfg.ServerTiming {
		ms := strconv.FormatFloat(float64(parked)/float64(time.Millisecond), 'f', 2, 64)
		x.SetResponse(headerServerTiming, "parked;dur="+ms)
	}
}

// refusalOf is the cause and the detail of a request that got no pod.
func refusalOf(err error) (fault.Cause, string) {
	switch e := err.(type) { //nolint:errorlint // both are made here or by the engine, never wrapped
	case *refusal:
		return e.cause, e.detail
	case fault.Cause:
		return e, ""
	}
	return fault.Internal, err.Error()
}
