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
	pa, err := b.Assign(a, "x", r)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := b.Assign(a, "x", r); again != pa {
		t.Errorf("asked again: %d, want %d", again, pa)
	}
	if pc, err := b.Assign(c, "x", r); err != nil || pc == pa {
		t.Errorf("second holder: %d, %v", pc, err)
	}
	if _, err := b.Assign(HolderOf("d", "e", "http"), "e", r); err == nil || !strings.Contains(err.Error(), "ROUSE_ACTIVATOR_PORTS") {
		t.Errorf("of a full range: %v, want the remedy", err)
	}
	b.Release(a, t0)
	if _, ok := b.Port(a); ok {
		t.Error("a released port is still its holder's")
	}
	if next := b.Expire(t0.Add(Quarantine - time.Second)); !next.Equal(t0.Add(Quarantine)) {
		t.Errorf("next end of quarantine %v, want %v", next, t0.Add(Quarantine))
	}
	if _, err := b.Assign(HolderOf("d", "e", "http"), "e", r); err == nil {
		t.Error("a port in quarantine was given away")
	}
	if back, _ := b.Assign(a, "x", r); back != pa {
		t.Errorf("returned: %d, want its old port %d", back, pa)
	}
	b.Release(a, t0)
	b.Expire(t0.Add(Quarantine))
	if p, err := b.Assign(HolderOf("d", "e", "http"), "e", r); err != nil || p != pa {
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
		if _, err := b.Assign(HolderOf("d", service, "http"), workload, DefaultRange); err != nil {
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

func TestBookProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Book{}
		r := Range{20000, 20000 + uint16(rapid.IntRange(0, 12).Draw(t, "size"))}
		now := t0
		left := map[uint16]time.Time{} // released at, of ports that nobody holds
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			h := HolderOf("d", fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "holder")), "http")
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				had, was := b.holders[h]
				p, err := b.Assign(h, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "workload"), r)
				if err != nil {
					if len(b.ports) < r.size() {
						t.Fatal("refused with ports free")
					}
					break
				}
				if was && had != p {
					t.Fatalf("%s got %d, had %d", h, p, had)
				}
				if at, q := left[p]; q && !was && now.Before(at.Add(Quarantine)) {
					t.Fatalf("port %d was given to another after %s", p, now.Sub(at))
				}
				delete(left, p)
			case 2:
				if p, ok := b.Port(h); ok {
					b.Release(h, now)
					left[p] = now.Truncate(time.Second)
				}
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 700).Draw(t, "seconds")) * time.Second)
				b.Expire(now)
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
