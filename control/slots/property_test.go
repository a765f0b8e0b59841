package slots

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testConfig = Config{TTL: 3 * time.Second, Turn: 50 * time.Millisecond, Settle: time.Second}

// agent is an activator: it follows grants, begins requests as far as they allow, and answers.
type agent struct {
	name   string
	seq    uint64
	grants map[string]int // nil: no limit
	use    map[string]int
	dead   map[string]bool // pods that it can send nothing to now
	parked int
	down   []Grant // on their way to it, in any order
	up     []Ack   // on their way to the ledger, in any order
	joined bool
}

func (a *agent) ack() Ack {
	out := Ack{Seq: a.seq, Unlimited: a.grants == nil, Bounds: maps.Clone(a.grants)}
	if out.Bounds == nil {
		out.Bounds = map[string]int{}
	}
	for uid, n := range a.use {
		out.Bounds[uid] = max(out.Bounds[uid], n)
	}
	return out
}

func (a *agent) load() Load {
	return Load{Parked: a.parked, Use: maps.Clone(a.use), Blocked: maps.Clone(a.dead)}
}

// fail makes a pod one that the agent can send nothing to, or can again.
func (a *agent) fail(uid string, dead bool) {
	if delete(a.dead, uid); dead {
		a.dead[uid] = true
	}
}

// world is a ledger with its activators, and messages under way between them.
type world struct {
	t      *rapid.T
	now    time.Time
	limit  int
	pods   []string
	made   int
	ledger *Ledger
	agents []*agent
	owner  time.Time // when the ledger was new
}

func (w *world) step() time.Time {
	grants, next := w.ledger.Step(w.now)
	for _, g := range grants {
		a := w.agent(g.Activator)
		a.down = append(a.down, g)
	}
	if !next.IsZero() && !next.After(w.now) {
		w.t.Fatalf("the next step is at %s, it is %s", next, w.now)
	}
	return next
}

func (w *world) agent(name string) *agent {
	return w.agents[slices.IndexFunc(w.agents, func(a *agent) bool { return a.name == name })]
}

// receive is a grant's arrival, late ones included.
func (w *world) receive(a *agent, i int) {
	g := a.down[i]
	a.down = slices.Delete(a.down, i, i+1)
	if g.Seq <= a.seq {
		return
	}
	a.seq, a.grants = g.Seq, g.Pods
	if g.Unlimited {
		a.grants = nil
	}
	a.up = append(a.up, a.ack())
}

// begin dispatches as many parked requests as the grants allow.
func (w *world) begin(a *agent) {
	for _, uid := range w.pods {
		for a.parked > 0 && !a.dead[uid] && (a.grants == nil && a.use[uid] < 100 || a.use[uid] < min(a.grants[uid], w.limit)) {
			a.use[uid]++
			a.parked--
		}
	}
}

func (w *world) end(a *agent, uid string) {
	if a.use[uid]--; a.use[uid] == 0 {
		delete(a.use, uid)
	}
	a.up = append(a.up, a.ack())
}

// check holds the promise: nobody sends more than a pod takes, and the ledger never says less than can be. When it says that nothing is on its
// way, everybody has what it says.
func (w *world) check() {
	if w.limit == 0 {
		return
	}
	every := map[string]int{}
	for _, a := range w.agents {
		for uid, n := range a.use {
			every[uid] += n
		}
	}
	for uid, n := range every {
		if n > w.limit {
			w.t.Fatalf("%d requests in pod %s, its limit is %d: %s", n, uid, w.limit, w)
		}
	}
	for _, uid := range w.pods {
		sum := 0
		for _, n := range w.ledger.Bounds(uid) {
			sum += n
		}
		if sum > w.limit {
			w.t.Fatalf("bounds %v in pod %s, its limit is %d", w.ledger.Bounds(uid), uid, w.limit)
		}
		for _, a := range w.agents {
			if got := w.ledger.Bounds(uid)[a.name]; w.ledger.Settled() && a.joined && a.grants[uid] != got {
				w.t.Fatalf("it is settled that %s has %d in pod %s: %s", a.name, got, uid, w)
			}
		}
	}
}

func (w *world) String() string {
	s := ""
	for _, a := range w.agents {
		s += fmt.Sprintf("\n%s seq %d grants %v use %v dead %v parked %d joined %v", a.name, a.seq, a.grants, a.use, slices.Sorted(maps.Keys(a.dead)), a.parked, a.joined)
	}
	return s
}

func newWorld(t *rapid.T, limit, agents int) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), limit: limit, ledger: New(testConfig)}
	w.ledger.Limit(limit)
	w.ledger.Pods(w.now, nil)
	for i := range agents {
		w.join(w.add(fmt.Sprintf("a%d", i)))
	}
	return w
}

func (w *world) add(name string) *agent {
	a := newAgent(name)
	w.agents = append(w.agents, a)
	return a
}

func newAgent(name string) *agent {
	return &agent{name: name, grants: map[string]int{}, use: map[string]int{}, dead: map[string]bool{}}
}

func (w *world) join(a *agent) {
	a.joined = true
	w.ledger.Join(w.now, a.name, a.ack())
}

// TestNeverOverTheLimit drives a ledger by any interleaving of requests, messages that are late, lost, repeated or out
// of order, broken connections, pods that come and go or cannot be used by some, activators that come and go, and a new owner.
func TestNeverOverTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 4).Draw(t, "limit"), rapid.IntRange(1, 4).Draw(t, "activators"))
		anybody := func() *agent { return rapid.SampledFrom(w.agents).Draw(t, "activator") }
		t.Repeat(map[string]func(*rapid.T){
			"":     func(*rapid.T) { w.check() },
			"step": func(*rapid.T) { w.step() },
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "ms")) * time.Millisecond)
				w.settleOverdue()
				w.comeBack()
			},
			"request": func(t *rapid.T) { a := anybody(); a.parked += rapid.IntRange(1, 5).Draw(t, "n"); w.begin(a) },
			"finish": func(t *rapid.T) {
				if a := anybody(); len(a.use) > 0 {
					w.end(a, rapid.SampledFrom(slices.Sorted(maps.Keys(a.use))).Draw(t, "pod"))
					w.begin(a)
				}
			},
			"grant arrives": func(t *rapid.T) {
				if a := anybody(); len(a.down) > 0 {
					w.receive(a, rapid.IntRange(0, len(a.down)-1).Draw(t, "which"))
					w.begin(a)
				}
			},
			"ack arrives": func(t *rapid.T) {
				if a := anybody(); len(a.up) > 0 && a.joined {
					i := rapid.IntRange(0, len(a.up)-1).Draw(t, "which")
					w.ledger.Ack(w.now, a.name, a.up[i])
					if rapid.Bool().Draw(t, "once") {
						a.up = slices.Delete(a.up, i, i+1)
					}
				}
			},
			"ack lost": func(t *rapid.T) {
				if a := anybody(); len(a.up) > 0 {
					a.up = a.up[1:]
				}
			},
			"load": func(t *rapid.T) {
				a := anybody()
				w.ledger.Load(w.now, a.name, a.load())
			},
			"pod can be used or not": func(t *rapid.T) {
				if a := anybody(); len(w.pods) > 0 {
					a.fail(rapid.SampledFrom(w.pods).Draw(t, "pod"), rapid.Bool().Draw(t, "dead"))
					w.begin(a)
				}
			},
			"break": func(t *rapid.T) {
				if a := anybody(); a.joined {
					a.joined = false
					w.ledger.Disconnect(w.now, a.name)
				}
			},
			"join":    func(*rapid.T) { w.join(anybody()) },
			"leaving": func(*rapid.T) { w.ledger.Leaving(anybody().name) },
			"goodbye": func(*rapid.T) {
				if a := anybody(); a.parked == 0 && len(a.use) == 0 {
					w.ledger.Goodbye(a.name)
					*a = *newAgent(a.name + "'")
				}
			},
			"pod comes": func(*rapid.T) {
				w.made++
				w.pods = append(w.pods, fmt.Sprintf("p%d", w.made))
				w.ledger.Pods(w.now, w.pods)
			},
			"pod is not ready for a moment": func(t *rapid.T) {
				if len(w.pods) > 0 {
					i := rapid.IntRange(0, len(w.pods)-1).Draw(t, "pod")
					w.ledger.Pods(w.now, slices.Delete(slices.Clone(w.pods), i, i+1))
					w.step()
					w.ledger.Pods(w.now, w.pods)
				}
			},
			"new owner": func(*rapid.T) {
				w.ledger = New(testConfig)
				w.ledger.Limit(w.limit)
				w.ledger.Pods(w.now, w.pods)
				w.owner = w.now
				for _, a := range w.agents {
					a.down, a.up, a.joined = nil, nil, false
				}
			},
		})
	})
}

// comeBack joins those whom a new owner has not heard of, the latest at the end of the time that it waits for them.
func (w *world) comeBack() {
	for _, a := range w.agents {
		if w.ledger.holders[a.name] == nil && w.now.Add(400*time.Millisecond).After(w.owner.Add(testConfig.TTL)) {
			w.join(a)
		}
	}
}

// settleOverdue keeps the promise that a lease rests on: an activator that is disconnected for a TTL is dead.
func (w *world) settleOverdue() {
	for _, a := range w.agents {
		h := w.ledger.holders[a.name]
		if h != nil && !h.connected && !w.now.Before(h.expires) {
			*a = *newAgent(a.name + "*")
		}
	}
}
