package kpa_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/control/kpa"
)

// aware is a drain-aware policy for pods that take so many requests at once.
func aware(limit int) kpa.Policy {
	p := kpa.DefaultPolicy()
	p.Burst = kpa.BurstDrainAware
	p.ContainerConcurrency = limit
	p.Targets = []kpa.Target{{Metric: kpa.Concurrency, Value: 0.7 * float64(limit), Total: float64(limit)}}
	return p
}

// crowd is that many requests in the system and in both windows.
func crowd(requests float64, startup kpa.Startup) kpa.Observation {
	o := kpa.Observation{InFlight: requests, Startup: startup, Path: kpa.Path{Activators: 2}}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: requests, Panic: requests, Present: true}
	return o
}

func TestDrainAwareStartsWhatHelps(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		limit    int
		requests float64
		startup  kpa.Startup
		ready    int
		starting int
		want     int
	}{
		// 500 requests of 50 ms are 25 s of work. Pod k is ready after 100 ms + 10 ms·k, so that n pods have done
		// 10 ms·n²/2 when the last one comes, and it must then have 50 ms to work: 66 pods.
		"from zero": {1, 500, kpa.Startup{Base: 100 * ms, PerPod: 10 * ms, Work: 50 * ms}, 0, 0, 66},
		// Pods that take ten at once do the same work ten times as fast.
		"limit 10": {10, 500, kpa.Startup{Base: 100 * ms, PerPod: 10 * ms, Work: 50 * ms}, 0, 0, 18},
		// Twenty ready pods drain 100 requests in 250 ms: a pod that takes a second is of no use.
		"soon drained": {1, 100, kpa.Startup{Base: time.Second, PerPod: 10 * ms, Work: 50 * ms}, 20, 0, 20},
		// Long requests keep everyone: as many pods as requests help.
		"long requests": {1, 50, kpa.Startup{Base: 100 * ms, PerPod: ms, Work: time.Minute}, 0, 0, 50},
		// What is already starting is not taken back.
		"starting stay": {1, 60, kpa.Startup{Base: 5 * time.Second, PerPod: time.Second, Work: ms}, 1, 9, 10},
		// Nothing is learnt yet: three tenths of the 572 that the default rule asks for.
		"unknown": {1, 400, kpa.Startup{}, 0, 0, 171},
		// Where each start costs the others nothing, Knative's number stands, except that no pod is without a request.
		// On one machine four start at the same time, and one more for each that is ready.
		"shared, unknown": {1, 500, kpa.Startup{AtOnce: 4}, 0, 0, 4},
		"shared, flowing": {1, 500, kpa.Startup{Base: 30 * ms, PerPod: 10 * ms, Work: 50 * ms, AtOnce: 4, Flowing: true}, 12, 4, 18},
		// One more every 5 ms, whatever is ready: starts that sleep are not held up by those before them.
		"shared, asleep": {1, 500, kpa.Startup{AtOnce: 4, OldestStarting: 100 * ms}, 0, 4, 24},
		// Or at the pace that is given.
		"shared, slowly": {1, 500, kpa.Startup{AtOnce: 4, OldestStarting: 500 * ms, Pace: 100 * ms}, 0, 4, 9},
		// Up to 3/10 of 715 pods need only come before the queue is empty.
		"shared, modest": {1, 500, kpa.Startup{Base: 10 * ms, PerPod: 10 * ms, Work: 50 * ms, AtOnce: 1000}, 0, 0, 66},
		// What is slow because the machine is busy does not get faster by more pods.
		"shared, busy": {1, 500, kpa.Startup{Base: 10 * ms, PerPod: 10 * ms, Work: 500 * ms, LeastWork: 50 * ms, AtOnce: 1000}, 0, 0, 66},
		// Beyond, one must work four times as long as it took to bring up all of them: 500 s of work by 214 pods at 10 ms
		// each leave 1.3 s to the last of them, not 8.6 s. Were a start to cost 1 ms, the 334th would have the 1.3 s.
		"shared, dear":  {1, 500, kpa.Startup{Base: 10 * ms, PerPod: 10 * ms, Work: time.Second, AtOnce: 1000}, 0, 0, 214},
		"shared, cheap": {1, 500, kpa.Startup{Base: 10 * ms, PerPod: ms, Work: time.Second, AtOnce: 1000}, 0, 0, 334},
		// The first answer is late: what was seen of the work counts for a quarter.
		"shared, no answer yet": {1, 500, kpa.Startup{Base: 10 * ms, PerPod: ms, Work: 4 * time.Second, Unanswered: true, AtOnce: 1000}, 0, 0, 334},
		"no more than requests": {1, 10, kpa.Startup{Base: 100 * ms, PerPod: 1, Work: 50 * ms}, 0, 0, 10},
	} {
		t.Run(name, func(t *testing.T) {
			p := aware(c.limit)
			s := kpa.NewState(&p, 0, at(0))
			o := crowd(c.requests, c.startup)
			o.Ready, o.Starting, o.Replicas = c.ready, c.starting, c.ready+c.starting
			d := kpa.Decide(&p, &s, &o, at(2))
			if d.Raw != c.want || d.Reasons.Limit != kpa.LimitDrain {
				t.Errorf("Decide = %d pods by %v, want %d by drain-aware", d.Raw, d.Reasons.Limit, c.want)
			}
		})
	}
}

// TestDrainAwareGivesUpWhenItIsWrong: a queue that does not drain as predicted gets the default rule.
func TestDrainAwareGivesUpWhenItIsWrong(t *testing.T) {
	p := aware(1)
	s := kpa.NewState(&p, 0, at(0))
	o := crowd(500, kpa.Startup{Base: 100 * time.Millisecond, PerPod: 10 * time.Millisecond, Work: 50 * time.Millisecond})
	first := kpa.Decide(&p, &s, &o, at(2))
	o.Ready, o.Replicas = first.Raw, first.Raw
	if d := kpa.Decide(&p, &s, &o, at(3)); d.Raw < first.Raw || d.Raw > 2*first.Raw {
		t.Errorf("within its patience: %d pods, want some more than %d at most", d.Raw, first.Raw)
	}
	if d := kpa.Decide(&p, &s, &o, at(20)); d.Raw != 715 {
		t.Errorf("18 s later with the same queue: %d pods, want the default rule's 715", d.Raw)
	}
}

// TestDrainAwareIsPatientWithASlowDrain: a queue that shrinks, if later than predicted, is not met with more pods.
func TestDrainAwareIsPatientWithASlowDrain(t *testing.T) {
	p := aware(1)
	s := kpa.NewState(&p, 0, at(0))
	o := crowd(500, kpa.Startup{})
	first := kpa.Decide(&p, &s, &o, at(2))
	o.Ready, o.Replicas = first.Raw, first.Raw
	for i, left := range []float64{300, 180, 100} {
		o.InFlight = left
		if d := kpa.Decide(&p, &s, &o, at(float64(4+2*i))); d.Raw > 2*first.Raw {
			t.Errorf("with %v of 500 left: %d pods, want no more than twice the first %d", left, d.Raw, first.Raw)
		}
	}
}

// TestDrainAwareFollowsSteadyLoad: arrivals that keep pods busy are no burst.
func TestDrainAwareFollowsSteadyLoad(t *testing.T) {
	p := aware(1)
	s := kpa.NewState(&p, 0, at(0))
	o := crowd(100, kpa.Startup{Base: time.Second, PerPod: time.Millisecond, Work: 100 * time.Millisecond})
	o.Metrics[kpa.RPS] = kpa.Sample{Stable: 1000, Panic: 1000, Present: true}
	o.Ready, o.Replicas = 100, 100
	if d := kpa.Decide(&p, &s, &o, at(2)); d.Raw != 143 {
		t.Errorf("1000 requests per second of 100 ms: %d pods, want 100 busy ones at 70 %%: 143", d.Raw)
	}
}

// TestDrainAwareIsNeverMore than the default rule, and never less than what exists or is needed at all.
func TestDrainAwareIsNeverMore(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := aware(rapid.SampledFrom([]int{0, 1, 10}).Draw(r, "limit"))
		if p.ContainerConcurrency == 0 {
			p.Targets = kpa.DefaultPolicy().Targets
		}
		plain := p
		plain.Burst = kpa.BurstDefault
		duration := func(label string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(r, label))
		}
		o := crowd(rapid.Float64Range(0, 2000).Draw(r, "requests"), kpa.Startup{
			Base: duration("base"), PerPod: duration("perPod"), Work: duration("work"), OldestStarting: duration("age")})
		o.Ready, o.Starting = rapid.IntRange(0, 30).Draw(r, "ready"), rapid.IntRange(0, 30).Draw(r, "starting")
		a, b := kpa.NewState(&p, 0, at(0)), kpa.NewState(&plain, 0, at(0))
		held, full := kpa.Decide(&p, &a, &o, at(2)).Raw, kpa.Decide(&plain, &b, &o, at(2)).Raw
		if held > full || held < min(full, max(1, o.Ready+o.Starting)) {
			r.Fatalf("drain-aware wants %d, the default %d, with %d pods", held, full, o.Ready+o.Starting)
		}
	})
}

func TestLearner(t *testing.T) {
	var l kpa.Learner
	if got := l.Startup(true, at(1)); got != (kpa.Startup{}) {
		t.Errorf("a new learner knows %+v", got)
	}
	l.Ready(1, at(1)) // nobody asked for it
	for i := range 20 {
		asked := at(float64(10 * i))
		l.Rise(asked)
		for k := range 5 {
			l.Ready(1, asked.Add(time.Duration(100+20*k)*time.Millisecond))
		}
		l.Worked(50 * time.Millisecond)
		l.Worked(0)
	}
	got := l.Startup(true, at(190.25))
	want := kpa.Startup{Base: 100 * time.Millisecond, PerPod: 20 * time.Millisecond, Work: 50 * time.Millisecond,
		LeastWork: 50 * time.Millisecond, OldestStarting: 250 * time.Millisecond, Flowing: true}
	if got != want {
		t.Errorf("Startup = %+v, want %+v", got, want)
	}
	if idle := l.Startup(false, at(200)); idle.OldestStarting != 0 {
		t.Errorf("with nothing starting the oldest is %v old", idle.OldestStarting)
	}
}

// TestDrainAwareIsPatientWithANewBurst: the clock of one request that was held back says nothing about the burst behind it.
func TestDrainAwareIsPatientWithANewBurst(t *testing.T) {
	p := aware(1)
	s := kpa.NewState(&p, 0, at(0))
	known := kpa.Startup{Base: 100 * time.Millisecond, PerPod: 10 * time.Millisecond, Work: 50 * time.Millisecond}
	first := crowd(1, known)
	kpa.Decide(&p, &s, &first, at(0.5))
	burst := crowd(500, known)
	burst.Ready, burst.Replicas = 1, 1
	if d := kpa.Decide(&p, &s, &burst, at(10)); d.Raw > 100 {
		t.Errorf("a burst 9.5 s after a request: %d pods by %v, want those that help: about 70", d.Raw, d.Reasons.Limit)
	}
}

// TestDrainAwareIsPatientWithABusyMachine: more pods do not make it faster, but one that does not get on at all gets the
// default rule in the end.
func TestDrainAwareIsPatientWithABusyMachine(t *testing.T) {
	p := aware(1)
	s := kpa.NewState(&p, 0, at(0))
	o := crowd(500, kpa.Startup{
		Base: 100 * time.Millisecond, PerPod: 10 * time.Millisecond, Work: 50 * time.Millisecond, AtOnce: 1000,
	})
	first := kpa.Decide(&p, &s, &o, at(2))
	o.Ready, o.Replicas = first.Raw, first.Raw
	if d := kpa.Decide(&p, &s, &o, at(8)); d.Raw > 214 {
		t.Errorf("6 s later with the same queue: %d pods, want 3/10 of the default rule's 715 at most", d.Raw)
	}
	if d := kpa.Decide(&p, &s, &o, at(30)); d.Raw != 715 {
		t.Errorf("28 s later with the same queue: %d pods, want the default rule's 715", d.Raw)
	}
}
