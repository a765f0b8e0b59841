package control

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/identity"
)

// helloService is the service of revisionOf.
var helloService = identity.Key{Namespace: "default", Name: "hello"}

func (w *world) demand(k identity.Key) Demand {
	w.t.Helper()
	d, err := w.loop.Demand(k)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func TestDemandSumsRevisions(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		old := w.add(revisionOf(t, "hello-00001", "target", "50", "target-utilization-percentage", "100"))
		latest := w.add(revisionOf(t, "hello-00002", "target", "10", "target-utilization-percentage", "100"))
		if d := w.demand(helloService); d.Active {
			t.Errorf("demand before the first request: %+v", d)
		}
		for range 10 {
			w.report(old, "activator", 30, 0)
			w.report(latest, "activator", 12, 0)
			time.Sleep(time.Second)
		}
		want := Demand{Active: true, Loads: []Load{{Metric: kpa.Concurrency, Total: 42, Target: 10}}}
		diff(t, "demand of the service", want, w.demand(helloService))
		want.Loads[0] = Load{Metric: kpa.Concurrency, Total: 30, Target: 50}
		diff(t, "demand of one revision", want, w.demand(old.Key()))

		w.loop.Remove(latest)
		diff(t, "demand after the newest revision went", want, w.demand(helloService))
		w.loop.Remove(old)
		if _, err := w.loop.Demand(helloService); !errors.Is(err, ErrUnknownRevision) {
			t.Errorf("Demand of a service without revisions = %v, want ErrUnknownRevision", err)
		}
		if len(w.loop.services) != 0 {
			t.Errorf("%d services are left, want none", len(w.loop.services))
		}
	})
}

func TestDemandOfAReplacedRevisionCountsOnce(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.report(w.add(revisionOf(t, "hello-1")), "activator", 7, 0)
		again := revisionOf(t, "hello-1")
		again.ID.UID = "another"
		w.add(again)
		if d := w.demand(helloService); d.Active || len(d.Loads) != 1 || d.Loads[0].Total != 0 {
			t.Errorf("demand %+v, want none: the revision with the load was replaced", d)
		}
	})
}

func TestAimsFollowTheSettings(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rev := revisionOf(t, "hello-1")
		if id := w.add(rev); !w.loop.Aims(id, kpa.Concurrency) || w.loop.Aims(id, kpa.CPU) {
			t.Error("a revision with the default metric aims at concurrency alone")
		}
		w.add(revisionOf(t, "hello-1", "metric", "cpu", "class", "hpa.autoscaling.knative.dev"))
		if !w.loop.Aims(rev.ID, kpa.CPU) || w.loop.Aims(rev.ID, kpa.Memory) {
			t.Error("a revision whose metric became cpu aims at cpu and not at memory")
		}
		again := rev.ID
		again.UID = "another"
		if w.loop.Aims(again, kpa.Concurrency) {
			t.Error("a revision that is not there aims at nothing")
		}
	})
}

func TestWatchTellsOfDemandAtOnce(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "window", "6s"))
		changes, cancel := w.loop.Watch(helloService)
		defer cancel()
		synctest.Wait()
		select {
		case <-changes:
		default:
		}
		began := time.Now()
		w.report(id, "activator", 1, 0)
		<-changes
		if took := time.Since(began); took != 0 || !w.demand(helloService).Active {
			t.Errorf("demand was told after %v, active %t; want at once", took, w.demand(helloService).Active)
		}
		w.report(id, "activator", 0, 0)
		for w.demand(helloService).Active {
			<-changes
		}
		if took := time.Since(began); took < 6*time.Second || took > 6*time.Second+2*w.loop.cfg.Period {
			t.Errorf("the end of the demand was told after %v, want one stable window and at most two periods", took)
		}
	})
}

func TestWatchIsToldOfTheEndAndOfNoOthers(t *testing.T) {
	inWorld(t, Config{Period: time.Hour}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		other, cancelOther := w.loop.Watch(identity.Key{Namespace: "default", Name: "other"})
		named, cancelNamed := w.loop.Watch(id.Key())
		cancelled, cancel := w.loop.Watch(helloService)
		cancel()
		cancel() // once more does no harm
		w.loop.Remove(id)
		if len(named) != 1 || len(other) != 0 || len(cancelled) != 0 {
			t.Errorf("news for the revision %d, another service %d, a cancelled watch %d; want 1, 0, 0", len(named), len(other), len(cancelled))
		}
		cancelNamed()
		cancelOther()
		if n := w.loop.watches.n.Load(); n != 0 || len(w.loop.watches.by) != 0 {
			t.Errorf("%d watches are left of none", n)
		}
	})
}
