package kpa

import "time"

// fewest is how many pods must follow the first before they tell how much each adds: two that were asked for together
// may well be ready together.
const fewest = 3

// Learner learns what drain-aware bursts need to know about a revision from its recent starts and requests. The first
// pod of a rise tells how long a start takes, the others how much each of them adds, because pods that start together
// compete for the same machine. The zero value knows nothing. It is plain data, so that it can be handed over, and not
// safe for concurrent use.
type Learner struct {
	// Base, PerPod and Work are what Startup reports; 0 is "not learnt yet".
	Base, PerPod, Work time.Duration
	// Asked is when the present rise was asked for, First how long its first pod took, and Seen how many of its pods
	// are ready.
	Asked time.Time
	First time.Duration
	Seen  int
	// Least is the shortest work that a report of the present rise has shown.
	Least time.Duration
}

// Rise begins a new rise: pods are asked for while none are starting.
func (l *Learner) Rise(now time.Time) { l.Asked, l.First, l.Seen, l.Least = now, 0, 0, 0 }

// Ready notes that so many more pods of the rise are ready.
func (l *Learner) Ready(pods int, now time.Time) {
	if l.Asked.IsZero() || pods <= 0 {
		return
	}
	took := now.Sub(l.Asked)
	if l.Seen == 0 {
		l.First = took
		l.Base = blend(l.Base, took)
		l.Seen = 1
		pods--
	}
	if pods > 0 {
		l.Seen += pods
		if l.Seen > fewest {
			l.PerPod = blend(l.PerPod, (took-l.First)/time.Duration(l.Seen-1))
		}
	}
}

// Worked notes how long the application worked on a request, averaged over those of a report; 0 when there were none.
func (l *Learner) Worked(average time.Duration) {
	if average > 0 {
		l.Work = blend(l.Work, average)
		if l.Least == 0 || average < l.Least {
			l.Least = average
		}
	}
}

// Startup returns what is known at now; starting says whether pods are starting.
func (l *Learner) Startup(starting bool, now time.Time) Startup {
	st := Startup{Base: l.Base, PerPod: l.PerPod, Work: l.Work, LeastWork: l.Least}
	if starting && !l.Asked.IsZero() {
		st.OldestStarting = now.Sub(l.Asked)
		if l.Seen > 0 {
			// What this rise shows counts more than what others did.
			st.Base, st.Flowing = l.First, true
		}
	}
	if l.Work == 0 && l.Seen > 0 {
		st.Work, st.Unanswered = now.Sub(l.Asked)-l.First, true
	}
	return st
}

// blend moves old a quarter of the way to the newest; the first value counts fully.
func blend(old, newest time.Duration) time.Duration {
	if old == 0 {
		return newest
	}
	return old + (newest-old)/4
}
