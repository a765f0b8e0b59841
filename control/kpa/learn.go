package kpa

import "time"

const (
	// forget is how much of what was learnt survives the next start: about the last twenty count.
	forget = 0.95
	// spread is the least variance, in pods squared, from which the cost of starting pods together is told.
	spread = 0.25
	// assumedShare is how much later each further pod is taken to be ready, as a share of one start, until that is
	// known.
	assumedShare = 1.0 / 8
)

// Learner learns what drain-aware bursts need to know of a revision from its recent starts and requests. The zero
// value knows nothing. It is plain data, so that it can be handed over, and not safe for concurrent use.
type Learner struct {
	// Weight, X, Y, XX and XY are the faded sums of a straight line through the starts: how many other pods became
	// ready meanwhile, against the seconds that the start took.
	Weight, X, Y, XX, XY float64
	// PerPod is the last slope that could be told, in seconds; negative values do not occur.
	PerPod float64
	// Known says that PerPod was told by starts rather than assumed.
	Known bool
	// Work is the faded average of the seconds per request, over WorkWeight requests.
	Work, WorkWeight float64
}

// Started notes that a pod became ready that long after it was asked for, and that so many other pods had become ready
// in the meantime.
func (l *Learner) Started(took time.Duration, others int) {
	x, y := float64(others), took.Seconds()
	l.Weight = l.Weight*forget + 1
	l.X = l.X*forget + x
	l.Y = l.Y*forget + y
	l.XX = l.XX*forget + x*x
	l.XY = l.XY*forget + x*y
	mean := l.X / l.Weight
	if variance := l.XX/l.Weight - mean*mean; variance > spread {
		l.PerPod = max(0, (l.XY/l.Weight-mean*l.Y/l.Weight)/variance)
		l.Known = true
	}
}

// Worked notes that so many requests took that long on average in the application.
func (l *Learner) Worked(average time.Duration, requests float64) {
	if requests <= 0 {
		return
	}
	// A thousand requests are enough to judge by; more would only make it slow to change its mind.
	const most = 1000
	l.WorkWeight = min(l.WorkWeight, most)
	l.Work = (l.Work*l.WorkWeight + average.Seconds()*requests) / (l.WorkWeight + requests)
	l.WorkWeight += requests
}

// Startup returns what is known now, with zeros for what is not.
func (l *Learner) Startup() Startup {
	st := Startup{Work: inSeconds(l.Work)}
	if l.Weight == 0 {
		return st
	}
	mean := l.Y / l.Weight
	slope := l.PerPod
	if !l.Known {
		slope = mean * assumedShare
	}
	base := max(mean-slope*l.X/l.Weight, time.Millisecond.Seconds())
	st.Base, st.PerPod = inSeconds(base), inSeconds(slope)
	return st
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
