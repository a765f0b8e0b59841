package route

import (
	"time"

	"github.com/rousehq/rouse/internal/identity"
)

// Rollout moves the traffic of the latest revision to a new one in steps, which Knative calls gradual rollout
// (serving.knative.dev/rollout-duration). The new revision starts with 1 %. The first step is as long as the new
// revision took to become ready, at least a second, so that a slow starter is not given more than it can take; the
// rest of the duration is divided into steps of that length, but into no more than one per remaining per cent. The
// newest of the older revisions is drained first.
//
// Knative rounds each step to a whole per cent and can so take half as long again as asked; here the steps are
// spread evenly and end with the duration.
//
// A Rollout is a plain value; its methods change nothing. The zero Rollout has no revisions and is done.
type Rollout struct {
	// Shares is what the revisions have right after the start, oldest first; the last is the new one.
	Shares []Share
	// Began is when the new revision got its first per cent.
	Began time.Time
	// Ready is when it answered; the zero time until then, and no further step is taken.
	Ready time.Time
	// Duration is from Began to the whole move.
	Duration time.Duration
}

// Begin starts a rollout from what the revisions have now, oldest first. With at most 1 % to move, with no duration
// or with nobody to move from it is done at once. It may begin from the shares of a rollout that is under way.
func Begin(now time.Time, current []Share, to identity.Revision, d time.Duration) Rollout {
	total, has := 0, 0
	var shares []Share
	for _, s := range current {
		total += s.Percent
		switch {
		case s.Revision == to: // moving back to one that still has a share
			has += s.Percent
		case s.Percent > 0:
			shares = append(shares, s)
		}
	}
	r := Rollout{Shares: append(shares, Share{Revision: to}), Began: now, Duration: d}
	first := max(1, has)
	if d <= 0 || total <= 1 {
		first = total
	}
	r.Shares = move(r.Shares, first, total)
	return r
}

// Observed returns the rollout with the time at which the new revision became ready; the first report counts.
func (r Rollout) Observed(ready time.Time) Rollout {
	if r.Ready.IsZero() {
		r.Ready = ready
	}
	return r
}

// At returns the shares at a time and when they change next; the zero time says that the rollout is done, or waits
// for the new revision to become ready.
func (r Rollout) At(now time.Time) (shares []Share, next time.Time) {
	if len(r.Shares) == 0 {
		return nil, time.Time{}
	}
	rest := r.total() - r.newest()
	if rest == 0 || r.Ready.IsZero() {
		return r.Shares, time.Time{}
	}
	steps, pause := r.steps(rest)
	done := min(steps, max(0, int(now.Sub(r.Ready)/pause)))
	if done < steps {
		next = r.Ready.Add(time.Duration(done+1) * pause)
	}
	moved := (rest*done + steps/2) / steps
	return move(r.Shares, r.newest()+moved, r.total()), next
}

// Done reports whether all traffic has moved.
func (r Rollout) Done(now time.Time) bool {
	shares, _ := r.At(now)
	return len(shares) <= 1
}

// steps returns how many steps move the rest and the pause before each.
func (r Rollout) steps(rest int) (n int, pause time.Duration) {
	first := max(time.Second, r.Ready.Sub(r.Began))
	remaining := max(time.Second, r.Duration-first)
	n = min(rest, max(1, int(remaining/first)))
	return n, remaining / time.Duration(n)
}

func (r Rollout) newest() int { return r.Shares[len(r.Shares)-1].Percent }

func (r Rollout) total() int {
	sum := 0
	for _, s := range r.Shares {
		sum += s.Percent
	}
	return sum
}

// move returns the shares with the last one raised to goal of total, taken from the newest of the others first.
// Revisions left without a share are not in it.
func move(shares []Share, goal, total int) []Share {
	last := shares[len(shares)-1]
	last.Percent = goal
	keep := total - goal
	var out []Share
	for _, s := range shares[:len(shares)-1] {
		s.Percent = min(s.Percent, keep)
		keep -= s.Percent
		if s.Percent > 0 {
			out = append(out, s)
		}
	}
	return append(out, last)
}
