package sliceplan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func endpoints(from, to int) (all []Endpoint) {
	for i := from; i < to; i++ {
		all = append(all, Endpoint{Addr: addr(i), UID: fmt.Sprint("uid", i), Pod: fmt.Sprint("pod", i), Serving: true})
	}
	return all
}

var (
	podPorts = []Port{{Name: "http", Number: 8012}}
	actPorts = []Port{{Name: "http", Number: 20001}}
)

// carryOut applies a plan step by step and calls seen after each step.
func carryOut(have []Slice, p Plan, seen func([]Slice)) []Slice {
	all := slices.Clone(have)
	for _, s := range p.Create {
		all = append(all, s)
		seen(all)
	}
	for _, s := range p.Update {
		all[slices.IndexFunc(all, func(o Slice) bool { return o.Name == s.Name })] = s
		seen(all)
	}
	for _, name := range p.Delete {
		all = slices.DeleteFunc(slices.Clone(all), func(o Slice) bool { return o.Name == name })
		seen(all)
	}
	return all
}

func TestMake(t *testing.T) {
	none := func([]Slice) {}
	pods := func(from, to int) []Group { return []Group{{Pods, podPorts, endpoints(from, to)}} }
	acts := func(from, to int) []Group { return []Group{{Activators, actPorts, endpoints(from, to)}} }
	full := carryOut(nil, Make("s", pods(0, 100), nil, 100), none)
	for _, tc := range []struct {
		name    string
		want    []Group
		have    []Slice
		limit   int
		writes  [3]int // created, updated, deleted
		endWith int    // slices
	}{
		{"nothing", nil, nil, 100, [3]int{}, 0},
		{"first activators", acts(0, 2), nil, 100, [3]int{1, 0, 0}, 1},
		{"to pods", pods(0, 1), carryOut(nil, Make("s", acts(200, 202), nil, 100), none), 100, [3]int{1, 0, 1}, 1},
		{"one pod more opens a slice", pods(0, 101), full, 100, [3]int{1, 0, 0}, 2},
		{"one pod less writes one slice", pods(1, 100), full, 100, [3]int{0, 1, 0}, 1},
		{"one pod replaced writes one slice", pods(1, 101), full, 100, [3]int{0, 1, 0}, 1},
		{"no pod left", nil, full, 100, [3]int{0, 0, 1}, 0},
		{"1,500 pods", pods(0, 1500), nil, 1000, [3]int{2, 0, 0}, 2},
		{"limit beyond what Kubernetes takes", pods(0, 1500), nil, 5000, [3]int{2, 0, 0}, 2},
		{"nearly empty slices are merged", pods(90, 110), carryOut(nil, Make("s", pods(0, 200), nil, 100), none), 100, [3]int{0, 1, 1}, 1},
		{"ports differ", []Group{{Pods, podPorts, endpoints(0, 2)}, {Pods, []Port{{Name: "http", Number: 9000}}, endpoints(2, 3)}}, nil, 100, [3]int{2, 0, 0}, 2},
		{"limit fell", pods(0, 100), full, 40, [3]int{2, 1, 0}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := Make("s", tc.want, tc.have, tc.limit)
			if got := [3]int{len(p.Create), len(p.Update), len(p.Delete)}; got != tc.writes {
				t.Errorf("created, updated, deleted = %v, want %v", got, tc.writes)
			}
			end := carryOut(tc.have, p, none)
			if len(end) != tc.endWith {
				t.Errorf("%d slices in the end, want %d", len(end), tc.endWith)
			}
		})
	}
}

// TestASmallerLimit: what takes the overflow is written before it is taken out of where it was.
func TestASmallerLimit(t *testing.T) {
	for _, n := range []int{9, 11, 12, 16} {
		groups := []Group{{Pods, podPorts, endpoints(0, n)}}
		have := carryOut(nil, Make("s", groups, nil, 8), func([]Slice) {})
		all := wanted(groups)
		end := carryOut(have, Make("s", groups, have, 6), func(now []Slice) {
			present := places(now)
			for k := range all {
				if present[k] == 0 {
					t.Errorf("%d pods: %v is gone for a moment", n, k)
				}
			}
		})
		for _, s := range end {
			if len(s.Endpoints) > 6 {
				t.Errorf("%d pods: a slice of %d in the end", n, len(s.Endpoints))
			}
		}
	}
}

func TestFamiliesAreSeparate(t *testing.T) {
	both := append(endpoints(0, 2), Endpoint{Addr: netip.MustParseAddr("fd00::1")}, Endpoint{Addr: netip.MustParseAddr("fd00::2")})
	p := Make("s", []Group{{Activators, actPorts, both}}, nil, 100)
	if len(p.Create) != 2 || p.Create[0].IPv6 == p.Create[1].IPv6 {
		t.Fatalf("Create = %+v, want one slice per family", p.Create)
	}
	for _, s := range p.Create {
		for _, e := range s.Endpoints {
			if e.Addr.Is6() != s.IPv6 {
				t.Errorf("%s is in the slice of the other family", e.Addr)
			}
		}
	}
}

func TestChangedPropertyIsWritten(t *testing.T) {
	before := carryOut(nil, Make("s", []Group{{Pods, podPorts, endpoints(0, 3)}}, nil, 100), func([]Slice) {})
	changed := endpoints(0, 3)
	changed[1].Zone = "b"
	p := Make("s", []Group{{Pods, podPorts, changed}}, before, 100)
	if len(p.Update) != 1 || !slices.ContainsFunc(p.Update[0].Endpoints, func(e Endpoint) bool { return e.Zone == "b" }) {
		t.Errorf("plan %+v does not write the new zone", p)
	}
}

func genGroups(t *rapid.T, label string) []Group {
	var groups []Group
	for i := range rapid.IntRange(0, 3).Draw(t, label+" groups") {
		ports := []Port{{Name: "http", Number: uint16(8000 + rapid.IntRange(0, 1).Draw(t, "port"))}}
		backend := rapid.SampledFrom([]Backend{Pods, Activators}).Draw(t, "backend")
		var es []Endpoint
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(i*100, i*100+60), 0, 40, rapid.ID[int]).Draw(t, "addresses") {
			e := endpoints(n, n+1)[0]
			if rapid.IntRange(0, 5).Draw(t, "six") == 0 {
				e.Addr = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n), 14: byte(n >> 8)})
			}
			es = append(es, e)
		}
		groups = append(groups, Group{backend, ports, es})
	}
	return groups
}

type place struct {
	backend Backend
	port    uint16
	addr    netip.Addr
}

func places(all []Slice) map[place]int {
	m := make(map[place]int)
	for _, s := range all {
		for _, e := range s.Endpoints {
			m[place{s.Backend, s.Ports[0].Number, e.Addr}]++
		}
	}
	return m
}

func wanted(groups []Group) map[place]int {
	m := make(map[place]int)
	for _, g := range groups {
		for _, e := range g.Endpoints {
			m[place{g.Backend, g.Ports[0].Number, e.Addr}] = 1
		}
	}
	return m
}

func TestPlansProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have []Slice
		before := map[place]int{}
		for step := range rapid.IntRange(1, 4).Draw(t, "steps") {
			limit := rapid.IntRange(1, 20).Draw(t, "limit")
			want := genGroups(t, fmt.Sprint("step ", step))
			after := wanted(want)
			p := Make("s", want, have, limit)
			if again := Make("s", want, have, limit); !cmp.Equal(p, again, cmpopts.EquateComparable(netip.Addr{})) {
				t.Fatalf("two plans of the same: %+v and %+v", p, again)
			}
			made := make(map[place]bool)
			have = carryOut(have, p, func(now []Slice) {
				present := places(now)
				for k := range after {
					if made[k] && present[k] == 0 || before[k] > 0 && present[k] == 0 {
						t.Fatalf("%v is wanted, was there, and is gone", k)
					}
					made[k] = made[k] || present[k] > 0
				}
				if len(before) > 0 && len(after) > 0 && len(present) == 0 {
					t.Fatal("nothing is behind the Service for a moment")
				}
				for _, s := range now {
					if len(s.Endpoints) > max(limit, 20) {
						t.Fatalf("%d endpoints in a slice", len(s.Endpoints))
					}
				}
			})
			if diff := cmp.Diff(after, places(have), cmpopts.EquateComparable(place{})); diff != "" {
				t.Fatalf("in the end (-want +got):\n%s", diff)
			}
			if p := Make("s", want, have, limit); !p.Empty() {
				t.Fatalf("a plan that was carried out is followed by %+v", p)
			}
			before = after
		}
	})
}

// TestReplacementComesFirst: when a backend changes, the last old endpoint goes after the last new one has come.
func TestReplacementComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := []Group{{Pods, podPorts, endpoints(0, rapid.IntRange(1, 50).Draw(t, "pods"))}}
		have := carryOut(nil, Make("s", old, nil, 10), func([]Slice) {})
		next := []Group{{Activators, actPorts, endpoints(200, 200+rapid.IntRange(1, 30).Draw(t, "activators"))}}
		all := wanted(next)
		broken := false
		carryOut(have, Make("s", next, have, 10), func(now []Slice) {
			present := places(now)
			for k := range wanted(old) {
				broken = broken || present[k] == 0
			}
			for k := range all {
				if broken && present[k] == 0 {
					t.Fatalf("an old endpoint is gone and %v has not come", k)
				}
			}
		})
		if !broken {
			t.Fatal("the old endpoints stay")
		}
	})
}
