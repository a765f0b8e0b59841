package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func show(shares []Share) string {
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%s=%d", s.Revision.Name, s.Percent))
	}
	return strings.Join(parts, " ")
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestRolloutStory(t *testing.T) {
	r := Begin(epoch, []Share{{rev("one"), "", 60}, {rev("two"), "", 40}}, rev("three"), 121*time.Second)
	at := func(d time.Duration, want string, wantNext time.Duration) {
		t.Helper()
		got, next := r.At(epoch.Add(d))
		if show(got) != want || (wantNext == 0) != next.IsZero() || (wantNext != 0 && !next.Equal(epoch.Add(wantNext))) {
			t.Errorf("At(%v) = %s, next after %v, want %s, next after %v", d, show(got), next.Sub(epoch), want, wantNext)
		}
	}
	at(0, "one=60 two=39 three=1", 0)
	at(time.Hour, "one=60 two=39 three=1", 0) // it waits for the new one
	r = r.Observed(epoch.Add(10 * time.Second)).Observed(epoch.Add(time.Hour))
	// 111 s are left: 11 steps, one each 10.09 s.
	pause := 111 * time.Second / 11
	at(10*time.Second, "one=60 two=39 three=1", 10*time.Second+pause)
	at(10*time.Second+pause, "one=60 two=30 three=10", 10*time.Second+2*pause)
	at(10*time.Second+5*pause, "one=54 three=46", 10*time.Second+6*pause)
	at(121*time.Second, "three=100", 0)
	if !r.Done(epoch.Add(121*time.Second)) || r.Done(epoch.Add(120*time.Second)) {
		t.Error("Done is not at the end")
	}
	// A fourth revision in the middle starts from what there is.
	middle, _ := r.At(epoch.Add(10*time.Second + 5*pause))
	fourth := Begin(epoch.Add(time.Minute), middle, rev("four"), time.Minute)
	if got := show(fourth.Shares); got != "one=54 three=45 four=1" {
		t.Errorf("a rollout in the middle of one begins with %s, want one=54 three=45 four=1", got)
	}
}

func TestRolloutThatIsNone(t *testing.T) {
	old := []Share{{rev("old"), "", 100}}
	for name, r := range map[string]Rollout{
		"no duration":   Begin(epoch, old, rev("new"), 0),
		"nobody before": Begin(epoch, nil, rev("new"), time.Minute),
		"the same":      Begin(epoch, []Share{{rev("new"), "", 100}}, rev("new"), time.Minute),
		"one per cent":  Begin(epoch, []Share{{rev("old"), "", 1}}, rev("new"), time.Minute),
		"only tagged":   Begin(epoch, []Share{{rev("old"), "t", 0}}, rev("new"), time.Minute),
	} {
		shares, next := r.Observed(epoch).At(epoch)
		if len(shares) != 1 || shares[0].Revision != rev("new") || !next.IsZero() {
			t.Errorf("%s: %s, next %v, want all at once", name, show(shares), next)
		}
	}
	if shares, next := (Rollout{}).At(epoch); len(shares) != 0 || !next.IsZero() || !(Rollout{}).Done(epoch) {
		t.Errorf("the zero Rollout = %s, next %v, want nothing", show(shares), next)
	}
	back := Begin(epoch, []Share{{rev("a"), "", 30}, {rev("b"), "", 70}}, rev("a"), time.Minute)
	if got := show(back.Shares); got != "b=70 a=30" {
		t.Errorf("a way back begins with %s, want b=70 a=30", got)
	}
}

func TestRolloutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var current []Share
		total := 0
		for i, p := range rapid.SliceOfN(rapid.IntRange(1, 30), 1, 4).Draw(t, "percents") {
			current = append(current, Share{Revision: rev(fmt.Sprint(i)), Percent: p})
			total += p
		}
		d := rapid.IntRange(1, 600).Draw(t, "seconds")
		wait := time.Duration(rapid.IntRange(0, 30_000).Draw(t, "ready after ms")) * time.Millisecond
		r := Begin(epoch, current, rev("new"), time.Duration(d)*time.Second).Observed(epoch.Add(wait))
		end := max(time.Duration(d)*time.Second, wait+time.Second)
		before, now := 0, epoch
		for steps := 0; ; steps++ {
			shares, next := r.At(now)
			sum := 0
			for _, s := range shares {
				sum += s.Percent
				if s.Percent < 1 {
					t.Fatalf("%s has an empty share", show(shares))
				}
			}
			newest := shares[len(shares)-1].Percent
			if sum != total || newest < before || steps > 100 {
				t.Fatalf("At(%v) = %s after %d, want a sum of %d that only rises", now.Sub(epoch), show(shares), before, total)
			}
			before = newest
			if next.IsZero() {
				break
			}
			if !next.After(now) {
				t.Fatalf("next %v is not after %v", next, now)
			}
			now = next
		}
		if before != total || now.Sub(epoch) > end {
			t.Fatalf("ended with %d of %d after %v, want all within %v", before, total, now.Sub(epoch), end)
		}
	})
}
