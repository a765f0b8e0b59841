package kpa

import "time"

// State is what a revision's decisions remember. Make one with NewState; keep it as long as the revision's UID lives
// and hand it over with the windows when the owner changes. It is plain data: JSON keeps all of it.
type State struct {
	// PanicSince is when the last load above the threshold was seen; zero outside of panic.
	PanicSince time.Time
	// MaxPanicPods is the most that was asked for in this panic.
	MaxPanicPods int
	// Delay remembers wishes for the scale-down delay.
	Delay DelayWindow
	// Raw and ExcessBurstCapacity are those of the last valid decision; -1 and the policy's guess before it.
	Raw                 int
	ExcessBurstCapacity int
	// Activity is the Active condition, since ActivitySince.
	Activity      Activity
	ActivitySince time.Time
	// InitialReached says that the initial scale was ready once.
	InitialReached bool
	// Limit is what had the last word in the last decision, since LimitSince.
	Limit      Limit
	LimitSince time.Time
}

// NewState returns the state of a revision that is met at now with that many ready pods. With more than one it begins
// in panic, so that a restart of the autoscaler takes nothing away before a full stable window was seen.
func NewState(p *Policy, ready int, now time.Time) State { panic("not built yet") }

// Clone returns a copy that shares nothing.
func (s *State) Clone() State { panic("not built yet") }

// DelayWindow is the largest value recorded in the last so many slots of two seconds. The zero value is empty.
type DelayWindow struct {
	// Slots are the two-second slots that can still be the maximum, oldest first, values falling.
	Slots []DelaySlot
}

// DelaySlot is one wish in a DelayWindow.
type DelaySlot struct {
	// Index is the Unix time divided by two seconds.
	Index int64
	// Pods is the largest wish recorded in the slot.
	Pods int
}
