package portalloc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestParseRange(t *testing.T) {
	for in, want := range map[string]string{
		"20000-29999": "", "9000-9000": "", "61000-65535": "",
		"": "no range", "1-2-3": "no range", "3000-2000": "no range", "a-b": "no range", "0-10": "no range", "70000-70001": "no range",
		"20000-30000": "node ports", "25000-40000": "node ports", "40000-41000": "ephemeral", "80-90": "privileged",
	} {
		_, err := ParseRange(in)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRange(%q) = %v, want %q", in, err, want)
		}
	}
}

func TestPortLife(t *testing.T) {
	var b Book
	r := Range{20000, 20001}
	a, c := HolderOf("d", "a", "http"), HolderOf("d", "c", "http")
	pa, err := b.Assign(a, "x", r, t0)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := b.Assign(a, "x", r, t0); again != pa {
		t.Errorf("asked again: %d, want %d", again, pa)
	}
	if pc, err := b.Assign(c, "x", r, t0); err != nil || pc == pa {
		t.Errorf("second holder: %d, %v", pc, err)
	}
	if _, err := b.Assign(HolderOf("d", "e", "http"), "e", r, t0); err == nil || !strings.Contains(err.Error(), "ROUSE_ACTIVATOR_PORTS") {
		t.Errorf("of a full range: %v, want the remedy", err)
	}
	b.Release(a, t0)
	if _, ok := b.Port(a); ok {
		t.Error("a released port is still its holder's")
	}
	if next := b.Expire(t0.Add(Quarantine - time.Second)); !next.Equal(t0.Add(Quarantine)) {
		t.Errorf("next end of quarantine %v, want %v", next, t0.Add(Quarantine))
	}
	if _, err := b.Assign(HolderOf("d", "e", "http"), "e", r, t0); err == nil {
		t.Error("a port in quarantine was given away")
	}
	if back, _ := b.Assign(a, "x", r, t0); back != pa {
		t.Errorf("returned: %d, want its old port %d", back, pa)
	}
	b.Release(a, t0)
	b.Expire(t0.Add(Quarantine))
	if p, err := b.Assign(HolderOf("d", "e", "http"), "e", r, t0); err != nil || p != pa {
		t.Errorf("after the quarantine: %d, %v, want %d", p, err, pa)
	}
}

func TestDecodeReportsEveryFault(t *testing.T) {
	b, errs := Decode(map[string]string{
		"20000": "d/a/http", "20001": "d/b/http released 2026-01-02T03:04:05Z",
		"x": "d/c/http", "20002": "nonsense", "20003": "d/e/http released yesterday", "20004": "d/a/http", "0": "d/f/http",
	})
	if len(errs) != 5 {
		t.Errorf("%d faults, want 5: %v", len(errs), errs)
	}
	if p, ok := b.Port("d/a/http"); !ok || p != 20000 {
		t.Errorf("the sound part: %d %t", p, ok)
	}
	if len(b.Leases()) != 2 {
		t.Errorf("leases %v, want 2", b.Leases())
	}
}

// TestLeaseSaysWhatItLeadsTo: the Service's own name is not written twice, and books of before say none.
func TestLeaseSaysWhatItLeadsTo(t *testing.T) {
	var b Book
	for service, workload := range map[string]string{"hello": "hello", "front": "shop"} {
		if _, err := b.Assign(HolderOf("d", service, "http"), workload, DefaultRange, t0); err != nil {
			t.Fatal(err)
		}
	}
	b.Release("d/front/http", t0)
	written := slices.Sorted(maps.Values(b.Encode()))
	if want := []string{"d/front/http for shop released 2026-01-02T03:04:05Z", "d/hello/http"}; !slices.Equal(written, want) {
		t.Errorf("written: %q, want %q", written, want)
	}
	read, errs := Decode(b.Encode())
	for holder, want := range map[Holder]Lease{"d/hello/http": {"d/hello/http", "hello", time.Time{}}, "d/front/http": {"d/front/http", "shop", t0}} {
		if _, got, ok := read.Lease(holder); !ok || got != want || len(errs) > 0 {
			t.Errorf("read: %+v, want %+v (%v)", got, want, errs)
		}
	}
}

// TestRecover: what an older state of a book has lost comes back, unless the port or the holder has found another.
func TestRecover(t *testing.T) {
	known, _ := Decode(map[string]string{
		"20000": "d/same/http", "20001": "d/lost/http for x", "20002": "d/moved/http", "20003": "d/robbed/http", "20004": "d/gone/http released 2026-01-02T03:04:05Z",
	})
	older, _ := Decode(map[string]string{"20000": "d/same/http", "20009": "d/moved/http released 2026-01-02T03:04:05Z", "20003": "d/other/http"})
	before := known.Encode()
	if n := older.Recover(known); n != 1 {
		t.Errorf("recovered %d ports, want one", n)
	}
	want := map[string]string{
		"20000": "d/same/http", "20001": "d/lost/http for x", "20009": "d/moved/http released 2026-01-02T03:04:05Z", "20003": "d/other/http",
	}
	if diff := cmp.Diff(want, older.Encode()); diff != "" {
		t.Errorf("the older state (-want +got):\n%s", diff)
	}
	copied := known.Clone()
	copied.Release("d/same/http", t0)
	if diff := cmp.Diff(before, known.Encode()); diff != "" {
		t.Errorf("the book that was read from and copied has changed (-want +got):\n%s", diff)
	}
	if n := new(Book).Recover(new(Book)); n != 0 {
		t.Errorf("recovered %d ports from an empty book", n)
	}
}

// TestAnotherRange: a port outside of the range is given up, and its holder may go on using it until its quarantine is over.
func TestAnotherRange(t *testing.T) {
	const h, other = Holder("d/a/http"), Holder("d/b/http")
	before, after := Range{20000, 20000}, Range{21000, 21000}
	b := &Book{}
	assign := func(h Holder, r Range, now time.Time, want uint16) {
		t.Helper()
		if got, err := b.Assign(h, "a", r, now); got != want || (err == nil) != (want != 0) {
			t.Fatalf("%s gets %d of %s, %v; want %d", h, got, r, err, want)
		}
	}
	assign(h, before, t0, 20000)
	assign(h, after, t0, 21000)
	if former, ok := b.Former(h); !ok || former != 20000 || b.Moving() != 1 {
		t.Errorf("its former port is %d, %t; %d are moving", former, ok, b.Moving())
	}
	if _, l, ok := b.Lease(h.former()); !ok || !l.Released.Equal(t0) || l.Workload != "a" {
		t.Errorf("the former lease is %+v", l)
	}
	assign(other, before, t0.Add(Quarantine-time.Second), 0)
	assign(h, before, t0.Add(time.Minute), 20000) // the range is again what it was
	if former, _ := b.Former(h); former != 21000 {
		t.Errorf("back: its former port is %d", former)
	}
	assign(other, after, t0.Add(time.Minute), 0)
	b.Expire(t0.Add(time.Minute + Quarantine))
	if _, ok := b.Former(h); ok || b.Moving() != 0 {
		t.Error("a former port outlives its quarantine")
	}
	assign(other, after, t0.Add(time.Minute+Quarantine), 21000)
	// Nothing is free: it keeps what it has, and what that leads to is known.
	if port, err := b.Assign(h, "x", after, t0.Add(2*Quarantine)); port != 20000 || err == nil {
		t.Errorf("of a full range: %d, %v; want the port that it has, and an error", port, err)
	}
	if _, l, _ := b.Lease(h); l.Workload != "x" || !l.Released.IsZero() {
		t.Errorf("of a full range: %+v", l)
	}
	b.Release(h, t0.Add(2*Quarantine))
	assign(h, after, t0.Add(2*Quarantine), 0) // one that was given back is not taken again
}

func TestBookProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Book{}
		draw := func() Range {
			first := 20000 + 10*uint16(rapid.IntRange(0, 2).Draw(t, "first"))
			return Range{first, first + uint16(rapid.IntRange(0, 12).Draw(t, "size"))}
		}
		r := draw()
		now := t0
		type leaving struct {
			h  Holder
			at time.Time
		}
		left := map[uint16]leaving{} // ports that nobody holds, and who had them
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			h := HolderOf("d", fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "holder")), "http")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1, 2:
				had, was := b.holders[h]
				_, held := b.Port(h)
				p, err := b.Assign(h, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "workload"), r, now)
				if err != nil {
					for port := r.First; port <= r.Last; port++ {
						if _, taken := b.ports[port]; !taken {
							t.Fatalf("refused with %d free", port)
						}
					}
					if now, holds := b.Port(h); holds != held || held && (now != had || p != had) {
						t.Fatalf("refused, and %s has %d instead of %d", h, now, had)
					}
					break
				}
				if !r.Has(p) || was && r.Has(had) && had != p {
					t.Fatalf("%s got %d of %s, had %d", h, p, r, had)
				}
				if l, q := left[p]; q && l.h != h && now.Before(l.at.Add(Quarantine)) {
					t.Fatalf("port %d was given to another after %s", p, now.Sub(l.at))
				}
				delete(left, p)
				if former, ok := b.Former(h); held && had != p {
					left[had] = leaving{h, now.Truncate(time.Second)}
					if !ok || former != had {
						t.Fatalf("%s moved from %d to %d, its former port is %d", h, had, p, former)
					}
				}
			case 3:
				if p, ok := b.Port(h); ok {
					b.Release(h, now)
					left[p] = leaving{h, now.Truncate(time.Second)}
				}
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 700).Draw(t, "seconds")) * time.Second)
				b.Expire(now)
			case 5:
				r = draw()
			}
			if len(b.ports) != len(b.holders) {
				t.Fatalf("%d ports, %d holders", len(b.ports), len(b.holders))
			}
			again, errs := Decode(b.Encode())
			if len(errs) > 0 || len(b.ports) > 0 && !cmp.Equal(again.Encode(), b.Encode()) {
				t.Fatalf("what was written is not what is read: %v", errs)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("20000", "d/a/http released 2026-01-02T03:04:05Z")
	f.Add("65536", "d//")
	f.Fuzz(func(t *testing.T, k, v string) {
		b, errs := Decode(map[string]string{k: v})
		if len(errs) > 0 {
			return
		}
		if _, errs := Decode(b.Encode()); len(errs) > 0 {
			t.Errorf("what was read can't be read again: %v", errs)
		}
	})
}
