package member

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const term = 5 * time.Second

func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

func want(t *testing.T, v *View, s float64, members ...string) {
	t.Helper()
	if got := v.Members(at(s)); !slices.Equal(got, members) {
		t.Errorf("members at %vs = %v, want %v", s, got, members)
	}
}

func TestDeadMemberIsGivenUpAfterATerm(t *testing.T) {
	v := NewView("a", term, t0)
	v.Saw("b", "1", at(0))
	want(t, v, 0, "a", "b")
	for s := 1.0; s <= 5; s++ {
		v.Renewed(at(s))
		v.Saw("b", "1", at(s)) // seen again, not renewed
		want(t, v, s, "a", "b")
	}
	v.Renewed(at(5.5))
	want(t, v, 5.6, "a")
	v.Saw("b", "2", at(6))
	want(t, v, 6, "a", "b")
	v.Gone("b")
	want(t, v, 6, "a")
}

func TestNothingChangesWhileTheServerIsAway(t *testing.T) {
	v := NewView("a", term, t0)
	v.Saw("b", "1", t0)
	v.Saw("c", "1", t0)
	want(t, v, 4, "a", "b", "c")
	want(t, v, 30, "a", "b", "c") // nobody can renew
	v.Renewed(at(31))
	want(t, v, 31, "a", "b", "c")
	v.Saw("b", "2", at(33))
	v.Renewed(at(35))
	want(t, v, 36.5, "a", "b") // c had a term after the server was back
}

func TestAwayWithoutAQuestionInBetween(t *testing.T) {
	v := NewView("a", term, t0)
	v.Saw("b", "1", at(1))
	want(t, v, 1, "a", "b")
	v.Renewed(at(60)) // nobody asked for the members for a minute
	want(t, v, 60, "a", "b")
}

// TestADeadMemberStaysDead although its lease is seen again and again, as with every relist.
func TestADeadMemberStaysDead(t *testing.T) {
	v := NewView("a", term, t0)
	v.Saw("b", "1", t0)
	dead := func(s float64, names ...string) {
		t.Helper()
		if got := v.Dead(time.Hour, at(s)); !slices.Equal(got, names) {
			t.Errorf("dead for an hour at %vs: %v, want %v", s, got, names)
		}
	}
	for s := 1.0; s <= 3600; s++ {
		v.Renewed(at(s))
		v.Members(at(s))
		if s > 6 && int(s)%60 == 0 {
			v.Saw("b", "1", at(s))
			want(t, v, s, "a")
		}
	}
	dead(3600)
	dead(3602, "b")
	dead(3606) // our own renewal is overdue: it is the server that is away
	v.Renewed(at(3607))
	dead(3608) // it has a term, and an hour
	v.Saw("b", "2", at(3610))
	want(t, v, 3610, "a", "b")
	v.Gone("b")
	want(t, v, 3611, "a")
}

func TestHolderProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "members")
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf("autoscaler-%d", i))
		}
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		rest := slices.Delete(slices.Clone(members), gone, gone+1)
		for b := range 64 {
			h := Holder(b, members)
			if !slices.Contains(members, h) {
				t.Fatalf("bucket %d is held by %q", b, h)
			}
			if len(rest) > 0 && h != members[gone] && Holder(b, rest) != h {
				t.Fatalf("bucket %d moved although its holder stayed", b)
			}
		}
	})
}

func TestSharesAreFair(t *testing.T) {
	members := []string{"autoscaler-7d9f-abcde", "autoscaler-7d9f-fghij", "autoscaler-7d9f-klmno"}
	share := map[string]int{}
	const buckets = 600
	for b := range buckets {
		share[Holder(b, members)]++
	}
	for _, m := range members {
		if share[m] < buckets/4 {
			t.Errorf("%s holds %d of %d", m, share[m], buckets)
		}
	}
}

func TestClosestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfNDistinct(rapid.StringMatching(`10\.0\.0\.[1-9][0-9]?`), 1, 12, rapid.ID[string]).Draw(t, "members")
		n := rapid.IntRange(0, 14).Draw(t, "n")
		key := rapid.String().Draw(t, "key")
		got := Closest(key, members, n)
		if len(got) != min(n, len(members)) {
			t.Fatalf("%d of %d, want %d", len(got), len(members), n)
		}
		shuffled := slices.Clone(members)
		slices.Reverse(shuffled)
		if again := Closest(key, shuffled, n); !slices.Equal(got, again) {
			t.Fatalf("the order of members matters: %v, %v", got, again)
		}
		without := Closest(key, slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == members[0] }), n)
		changed := 0
		for _, m := range got {
			if !slices.Contains(without, m) {
				changed++
			}
		}
		if changed > 1 {
			t.Fatalf("one that left moved %d", changed)
		}
	})
}
