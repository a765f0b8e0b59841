package lines

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadAgainstSplit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab\n")), 0, 200, -1).Draw(rt, "text")
		most := rapid.IntRange(16, 64).Draw(rt, "max") // bufio's least is 16
		var got []string
		Read(strings.NewReader(text), most, func(s string) { got = append(got, s) })
		var want []string
		for line := range strings.Lines(text) {
			for len(line) > most {
				want = append(want, line[:most])
				line = line[most:]
			}
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("Read(%q, %d) (-want +got):\n%s", text, most, diff)
		}
	})
}

func TestRingAgainstSlice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := NewRing[int](rapid.IntRange(1, 8).Draw(rt, "max"))
		var all []int
		for i := range rapid.IntRange(0, 30).Draw(rt, "adds") {
			r.Add(i)
			all = append(all, i)
			n := rapid.IntRange(-1, 10).Draw(rt, "n")
			want := all[max(0, len(all)-r.max):]
			if n >= 0 {
				want = want[max(0, len(want)-n):]
			}
			if got := r.Last(n); !slices.Equal(got, want) {
				rt.Fatalf("Last(%d) = %v, want %v", n, got, want)
			}
		}
	})
}

func TestTailPrefersStandardError(t *testing.T) {
	tail := NewTail(2)
	if got := tail.Lines(); len(got) != 0 {
		t.Errorf("Lines() of an empty tail = %q", got)
	}
	for _, s := range []string{"a", "b", "c"} {
		tail.Add(false, s)
	}
	if got, want := tail.Lines(), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("Lines() = %q, want %q", got, want)
	}
	tail.Add(true, "e")
	if got, want := tail.Lines(), []string{"e"}; !slices.Equal(got, want) {
		t.Errorf("Lines() = %q, want standard error alone, %q", got, want)
	}
}
