package activator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

// link is pods behind a line: each probe takes the round trip, a pod that is not up by then refuses, and silent ones
// never answer.
type link struct {
	mu      sync.Mutex
	rtt     time.Duration
	up      time.Time // when pods answer
	silent  map[netip.AddrPort]bool
	asked   map[netip.AddrPort][]time.Time
	now     int // probes under way
	most    int
	overlap bool // one pod was asked twice at a time
	under   map[netip.AddrPort]bool
}

func newLink(rtt time.Duration) *link {
	return &link{rtt: rtt, silent: map[netip.AddrPort]bool{}, asked: map[netip.AddrPort][]time.Time{}, under: map[netip.AddrPort]bool{}}
}

var errRefused = errors.New("connection refused")

func (l *link) Probe(ctx context.Context, to *forward.Pool, _ identity.Revision, _ Probe) error {
	addr := to.Addr()
	l.mu.Lock()
	l.overlap = l.overlap || l.under[addr]
	l.under[addr] = true
	l.asked[addr] = append(l.asked[addr], time.Now())
	l.now++
	l.most = max(l.most, l.now)
	wait := l.rtt
	if l.silent[addr] {
		wait = time.Hour
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.now--
		l.under[addr] = false
		l.mu.Unlock()
	}()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	if time.Now().Before(l.up) {
		return errRefused
	}
	return nil
}

// probed is a world whose pods are asked over the link; stop ends the activator.
func probed(t *testing.T, l *link, pods PodObserver) (w *world, stop func()) {
	t.Helper()
	s := settings()
	s.Probe = Probe{By: QueueProbe}
	w = newWorld(t, s)
	w.deps.Pods, w.probes.prober = pods, l
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return w, func() {
		cancel()
		running.Wait()
	}
}

func starting(uid string, port uint16) endpoint.Endpoint {
	return endpoint.Endpoint{Pod: identity.Pod{UID: uid, Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port)}}
}

// TestProbeFindsThePodFirst: how long after a pod began to answer its first request leaves, on links of several lengths
// and for starts of several lengths. Its source never calls it ready.
func TestProbeFindsThePodFirst(t *testing.T) {
	for _, rtt := range []time.Duration{200 * time.Microsecond, 5 * time.Millisecond, 70 * time.Millisecond, 600 * time.Millisecond} {
		for _, start := range []time.Duration{20 * time.Millisecond, time.Second, 30 * time.Second} {
			t.Run(fmt.Sprint(rtt, start), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLink(rtt)
					l.up = time.Now().Add(start)
					w, stop := probed(t, l, nil)
					x := forwardtest.New("hello")
					done := w.serve(x)
					began := time.Now()
					w.book.Publish(hello, []endpoint.Endpoint{starting("a", 1)})
					<-done
					late := time.Since(began) - start
					// The last no may have been on its way when the pod came up; then the pause, and one round trip.
					if most := 2*rtt + max(probeLeast, min(start/probeShare, probeMost)); late > most || x.Status != 200 {
						t.Errorf("dispatched %v after the pod was up (status %d), want at most %v", late, x.Status, most)
					}
					// Not more than a request each millisecond at first, a share of the time later.
					if n, most := len(l.asked[netip.MustParseAddrPort("10.0.0.1:1")]), 320; n > most {
						t.Errorf("asked %d times during %v, want at most %d", n, start, most)
					}
					if l.overlap {
						t.Error("a pod was asked while it had not answered yet")
					}
					stop()
				})
			})
		}
	}
}

// TestProbingEnds when the source calls the pod ready, when the pod goes, and with the activator: nothing is asked any
// more, and what was under way is given up.
func TestProbingEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world)
	}{
		{"ready", func(w *world) {
			ep := starting("a", 1)
			ep.State = endpoint.Ready
			w.book.Publish(hello, []endpoint.Endpoint{ep})
		}},
		{"removed", func(w *world) { w.book.Publish(hello, nil, "a") }},
		{"the revision goes", func(w *world) { w.Remove(hello) }},
		{"switched off", func(w *world) { w.Put(hello, settings()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLink(time.Millisecond)
				addr := netip.MustParseAddrPort("10.0.0.1:1")
				l.silent[addr] = true
				w, stop := probed(t, l, nil)
				w.book.Publish(hello, []endpoint.Endpoint{starting("a", 1)})
				synctest.Wait()
				c.do(w)
				synctest.Wait()
				if l.now != 0 {
					t.Errorf("%d probes are still under way", l.now)
				}
				time.Sleep(time.Minute)
				if n := len(l.asked[addr]); n != 1 {
					t.Errorf("asked %d times, want the once before", n)
				}
				stop()
			})
		})
	}
}

// TestSilentPodsHoldUpNoOther: two thousand pods of one revision never answer; those of a hundred others are found as
// if they were alone, and the number of probes under way is bounded.
func TestSilentPodsHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(time.Millisecond)
		w, stop := probed(t, l, nil)
		var dead []endpoint.Endpoint
		for i := range 2000 {
			ep := starting(fmt.Sprint("dead-", i), uint16(1000+i))
			l.silent[ep.Pod.Addr] = true
			dead = append(dead, ep)
		}
		w.book.Publish(hello, dead)
		synctest.Wait()
		l.up = time.Now().Add(20 * time.Millisecond)
		began := time.Now()
		s := settings()
		s.Probe = Probe{By: QueueProbe}
		var others []identity.Revision
		for i := range 100 {
			id := identity.Revision{Namespace: "default", Name: fmt.Sprint("other-", i), UID: fmt.Sprint("u-", i)}
			w.Put(id, s)
			w.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: id, Endpoints: []endpoint.Endpoint{starting("p", uint16(10_000+i))}}})
			others = append(others, id)
		}
		time.Sleep(time.Until(began.Add(30 * time.Millisecond)))
		synctest.Wait()
		for _, id := range others {
			if _, _, ready := w.Counts(id); ready != 1 {
				t.Errorf("%v has %d pods 10 ms after they came up, want 1", id, ready)
			}
		}
		time.Sleep(5 * time.Minute)
		stop()
		if l.most > maxAskingOne+100 {
			t.Errorf("%d probes at a time, want at most %d of one revision", l.most, maxAskingOne)
		}
		for _, ep := range dead {
			if len(l.asked[ep.Pod.Addr]) == 0 {
				t.Fatalf("%s was never asked", ep.Pod.UID)
			}
		}
	})
}

// TestRefusingPodsShareOneRate: pods that refuse at once, however many, are asked about once a millisecond together, and
// each has its turn.
func TestRefusingPodsShareOneRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(50 * time.Microsecond)
		l.up = time.Now().Add(time.Hour)
		w, stop := probed(t, l, nil)
		var dead []endpoint.Endpoint
		for i := range 1500 {
			dead = append(dead, starting(fmt.Sprint("dead-", i), uint16(1000+i)))
		}
		w.book.Publish(hello, dead)
		const span = 30 * time.Second
		time.Sleep(span)
		stop()
		asked, fewest := 0, 1<<30
		for _, ep := range dead {
			n := len(l.asked[ep.Pod.Addr])
			asked, fewest = asked+n, min(fewest, n)
		}
		if most := int(span/probeEach) + len(dead); asked > most || fewest < 15 {
			t.Errorf("asked %d times, one pod %d times; want at most %d, and each 15 times at least", asked, fewest, most)
		}
	})
}

// podNews keeps what a PodObserver is told.
type podNews struct {
	mu  sync.Mutex
	got []string
}

func (n *podNews) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.got) == 0 || n.got[len(n.got)-1] != s {
		n.got = append(n.got, s)
	}
}

func (n *podNews) Probed(_ identity.Revision, uid string, r ProbeResult, _ time.Duration) {
	n.add(uid + " " + r.String())
}

func (n *podNews) Ejected(_ identity.Revision, uid string, e Ejection) { n.add(uid + " " + e.String()) }

// TestProvenPodLosesItsSourcesReadiness: a pod that its source called ready and does not any more is asked anew.
func TestProvenPodLosesItsSourcesReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, news := newLink(time.Millisecond), &podNews{}
		w, stop := probed(t, l, news)
		ep := starting("a", 1)
		ep.State = endpoint.Ready
		w.book.Publish(hello, []endpoint.Endpoint{ep})
		l.up = time.Now().Add(time.Minute)
		ep.State = endpoint.Starting
		w.book.Publish(hello, []endpoint.Endpoint{ep})
		synctest.Wait()
		if _, _, ready := w.Counts(hello); ready != 0 {
			t.Errorf("%d pods are picked, want 0: its source took it back", ready)
		}
		time.Sleep(2 * time.Minute)
		if _, _, ready := w.Counts(hello); ready != 1 {
			t.Errorf("%d pods are picked after it answered, want 1", ready)
		}
		stop()
		if len(news.got) != 2 || news.got[0] != "a failed" || news.got[1] != "a ok" {
			t.Errorf("told %q, want failed, then ok", news.got)
		}
	})
}
