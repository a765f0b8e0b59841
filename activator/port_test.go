package activator

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

var other = identity.Revision{Namespace: "default", Name: "other-00001", UID: "u2", Generation: 1}

// through runs one request that comes in at a port.
func through(p *Port) (x *forwardtest.Exchange, done chan struct{}) {
	x, done = forwardtest.New("whatever"), make(chan struct{})
	go func() { defer close(done); p.ServeExchange(x) }()
	return x, done
}

// ready makes a pod of a revision other than hello.
func (w *world) ready(id identity.Revision) {
	cancel := w.book.Subscribe(id, w.Update)
	w.book.Publish(id, []endpoint.Endpoint{{Pod: identity.Pod{UID: "of " + id.Name}, State: endpoint.Ready}})
	cancel()
}

// TestAPortLeadsElsewhere: what is parked goes where the port leads by then, is counted there alone, and is reported there.
func TestAPortLeadsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.Put(other, settings())
		port := w.Port(hello)
		x, done := through(port)
		routed := forwardtest.New("hello")
		answered := w.serve(routed)
		synctest.Wait()
		port.Lead(other)
		synctest.Wait()
		first, _, _ := w.Counts(hello)
		second, _, _ := w.Counts(other)
		if first != 1 || second != 1 {
			t.Fatalf("parked %d and %d, want the routed one where it was and the other where the port leads", first, second)
		}
		if all := w.stats.copied(); all[len(all)-1].Name != other.Name {
			t.Errorf("the last report is for %s, want %s to be woken", all[len(all)-1].Name, other.Name)
		}
		w.ready(other)
		<-done
		w.pod("a", endpoint.Ready)
		<-answered
		if x.Status != 200 || routed.Status != 200 || w.Parked() != 0 {
			t.Errorf("answered %d and %d, parked %v; want 200 for both", x.Status, routed.Status, w.Parked())
		}
		for _, id := range []identity.Revision{hello, other} {
			if n := w.revision(id).load.InFlight(); n != 0 {
				t.Errorf("%s counts %v in flight after all", id, n)
			}
		}
	})
}

// TestAPortFollowsItsName: a revision that was recreated has what comes in at once, also what was parked for the one before.
func TestAPortFollowsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		port := w.Port(hello)
		parked, first := through(port)
		synctest.Wait()
		again := hello
		again.UID = "u9"
		w.Put(again, settings())
		late, second := through(port)
		synctest.Wait()
		port.Lead(again)
		synctest.Wait()
		if n, _, _ := w.Counts(again); n != 2 || parked.Status+late.Status != 0 {
			t.Fatalf("%d are parked, answered %d and %d; want both parked", n, parked.Status, late.Status)
		}
		w.ready(again)
		<-first
		<-second
		if parked.Status != 200 || late.Status != 200 {
			t.Errorf("answered %d and %d, want 200", parked.Status, late.Status)
		}
	})
}

// TestAPortWithoutASuccessor: what is parked for a revision that is gone is refused, and what comes later too.
func TestAPortWithoutASuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		port := w.Port(hello)
		x, done := through(port)
		synctest.Wait()
		w.Remove(hello)
		<-done
		late, answered := through(port)
		<-answered
		if x.Status != 404 || late.Status != 404 {
			t.Errorf("answered %d and %d, want 404", x.Status, late.Status)
		}
	})
}

// switched routes every host to one revision, which may change.
type switched struct {
	to atomic.Pointer[identity.Revision]
}

func (s *switched) Route(forward.Exchange) (Route, bool) {
	to := s.to.Load()
	if to == nil {
		return Route{}, false
	}
	return Route{Revision: to.Key()}, true
}

// TestARoutedRequestOutlivesItsRevision: what is parked for a revision that goes has a successor by name, else by its route,
// and is counted there alone.
func TestARoutedRequestOutlivesItsRevision(t *testing.T) {
	again := hello
	again.UID = "u9"
	recreate := func(w *world, _ *switched) identity.Revision {
		w.Put(again, settings())
		return again
	}
	for _, c := range []struct {
		name    string
		trusted bool
		do      func(w *world, s *switched) (next identity.Revision)
		status  int
	}{
		{"recreated", false, recreate, 200},
		{"recreated, by Knative's headers", true, recreate, 200},
		{"recreated while its host leads elsewhere", false, func(w *world, s *switched) identity.Revision {
			s.to.Store(&other)
			return recreate(w, s)
		}, 200},
		{"removed while its host leads elsewhere", false, func(w *world, s *switched) identity.Revision {
			s.to.Store(&other)
			w.Remove(hello)
			return other
		}, 200},
		{"removed, by Knative's headers", true, func(w *world, s *switched) identity.Revision {
			s.to.Store(&other)
			w.Remove(hello)
			return other
		}, 404},
		{"removed before its host leads elsewhere", false, func(w *world, _ *switched) identity.Revision {
			w.Remove(hello)
			return other
		}, 404},
		{"removed with its host", false, func(w *world, s *switched) identity.Revision {
			s.to.Store(nil)
			w.Remove(hello)
			return other
		}, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s := newWorld(t, settings()), &switched{}
				w.deps.Router = s
				s.to.Store(&hello)
				w.Put(other, settings())
				x, done := forwardtest.New("host"), make(chan struct{})
				if c.trusted {
					x.Headers["knative-serving-namespace"], x.Headers["knative-serving-revision"] = hello.Namespace, hello.Name
				}
				go func() { defer close(done); w.Handler(c.trusted).ServeExchange(x) }()
				synctest.Wait()
				next := c.do(w, s)
				synctest.Wait()
				parked, _, _ := w.Counts(next)
				if want := map[int]int{200: 1}[c.status]; parked != want || w.Parked() != float64(want) {
					t.Errorf("%d are parked for the successor, %v in all; want %d", parked, w.Parked(), want)
				}
				w.ready(next)
				<-done
				if x.Status != c.status {
					t.Errorf("answered %d, want %d", x.Status, c.status)
				}
				if n := w.revision(next).load.InFlight(); n != 0 {
					t.Errorf("the successor counts %v in flight after all", n)
				}
			})
		})
	}
}

// TestNothingIsParkedWhereAPortLedBefore: requests arrive while the port changes; whoever was about to be parked for the
// revision before is not left there.
func TestNothingIsParkedWhereAPortLedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, turns = 60, 200
		s := settings()
		s.QueueLimit = clients
		w := newWorld(t, s)
		w.Put(other, s)
		port := w.Port(hello)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() { port.ServeExchange(forwardtest.New("hello")) })
		}
		for i := range turns {
			port.Lead([]identity.Revision{other, hello}[i%2])
		}
		port.Lead(other)
		synctest.Wait()
		before, _, _ := w.Counts(hello)
		now, _, _ := w.Counts(other)
		if before != 0 || now != clients {
			t.Errorf("%d are parked where the port led before, %d where it leads; want 0 and %d", before, now, clients)
		}
		w.ready(other)
		all.Wait()
	})
}
