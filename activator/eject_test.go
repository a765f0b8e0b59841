package activator

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

var broken = forward.Result{Cause: fault.UpstreamReset, Status: 502}

// outliers is a dispatcher of n pods that ejects after 3 failures.
func outliers(t testing.TB, n int, o Outlier) (*Activator, *revision) {
	s := settings()
	s.ContainerConcurrency, s.Outlier = 10, o
	a, r := newDispatcher(t, Config{}, s)
	publish(a, 1, readyPods(n, nil)...)
	return a, r
}

// end lets one request of the pod end so, and returns whether it was ejected.
func end(p *pod, res forward.Result) Ejection {
	p.rev.mu.Lock()
	p.take()
	p.rev.mu.Unlock()
	return p.release(res).ejected
}

func isAvailable(p *pod) bool {
	p.rev.mu.Lock()
	defer p.rev.mu.Unlock()
	return p.available()
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		res            forward.Result
		failed, served bool
	}{
		{forward.Result{Status: 200}, false, true},
		{forward.Result{Status: 500}, false, true},
		{forward.Result{Status: 502}, true, false},
		{forward.Result{Status: 503}, true, false},
		{forward.Result{Status: 504}, true, false},
		{forward.Result{Cause: fault.ConnectFailed, Retryable: true}, true, false},
		{forward.Result{Cause: fault.UpstreamUnverified, Retryable: true}, true, false},
		{forward.Result{Cause: fault.UpstreamAborted, Status: 200}, true, false},
		{forward.Result{Cause: fault.TimeoutFirstByte, Status: 504}, true, false},
		{forward.Result{Cause: fault.NotAdmitted, Retryable: true}, false, false},
		{forward.Result{Cause: fault.ClientGone}, false, false},
		{forward.Result{Cause: fault.TimeoutTotal, Status: 504}, false, false},
	} {
		if failed, served := verdict(c.res); failed != c.failed || served != c.served {
			t.Errorf("verdict(%v, %d) = %v, %v, want %v, %v", c.res.Cause, c.res.Status, failed, served, c.failed, c.served)
		}
	}
}

// TestEjection follows one pod: three failures in a row eject it for 10 s, then it gets one request at a time, a failure
// of which ejects it for 20 s; after a success it is as good as any.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := outliers(t, 2, Outlier{Failures: 3})
		bad := r.pods["pod-0000"]
		for _, res := range []forward.Result{broken, broken, served, broken, broken} {
			if e := end(bad, res); e != NotEjected {
				t.Fatalf("ejected (%v) before three failures in a row", e)
			}
		}
		if e := end(bad, broken); e != Broken || a.Ejected() != 1 {
			t.Fatalf("after three in a row: %v and %v ejected, want outlier and 1", e, a.Ejected())
		}
		for range 10 {
			if p := get(t, r, 0); p == bad {
				t.Fatal("an ejected pod was picked")
			}
		}
		time.Sleep(10*time.Second - 1)
		if isAvailable(bad) {
			t.Error("back before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		p := get(t, r, 0) // the other is full
		if p != bad || isAvailable(bad) {
			t.Fatalf("picked %s, more at once allowed: %v; want the pod that is back, one request at a time", p.uid, isAvailable(bad))
		}
		if e := p.release(broken).ejected; e != Broken {
			t.Fatalf("a failure of the trial = %v, want another ejection", e)
		}
		time.Sleep(20*time.Second - 1)
		if isAvailable(bad) {
			t.Error("back before 20 s")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		end(bad, served)
		if bad.limit != 10 || a.Ejected() != 0 {
			t.Errorf("after a success: limit %d, %v ejected, want 10 and 0", bad.limit, a.Ejected())
		}
		time.Sleep(20 * time.Second) // as long as the last ejection
		for range 3 {
			end(bad, broken)
		}
		if bad.health.lasts != 10*time.Second {
			t.Errorf("after a good while the pod is ejected for %v, want 10s again", bad.health.lasts)
		}
		time.Sleep(time.Minute)
	})
}

// TestEjectionDoublesToItsCap: a pod that never recovers.
func TestEjectionDoublesToItsCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := outliers(t, 2, Outlier{Failures: 1, First: time.Second, Most: 5 * time.Second})
		bad := r.pods["pod-0001"]
		for i, want := range []time.Duration{1, 2, 4, 5, 5} {
			end(bad, broken)
			if bad.health.lasts != want*time.Second {
				t.Errorf("ejection %d lasts %v, want %v", i+1, bad.health.lasts, want*time.Second)
			}
			time.Sleep(bad.health.lasts)
			synctest.Wait()
		}
	})
}

// TestShareOfEjected: how many of n pods go when all fail.
func TestShareOfEjected(t *testing.T) {
	for _, c := range []struct {
		pods  int
		share float64
		want  float64
	}{{1, 0.5, 0}, {1, 1, 0}, {2, 0.5, 1}, {3, 0.5, 1}, {4, 0.5, 2}, {10, 0.5, 5}, {10, 0.05, 1}, {10, 1, 9}} {
		synctest.Test(t, func(t *testing.T) {
			a, r := outliers(t, c.pods, Outlier{Failures: 2, Share: c.share})
			for _, p := range r.pods {
				end(p, broken)
				end(p, broken)
			}
			if a.Ejected() != c.want {
				t.Errorf("%v of %d pods with share %v ejected, want %v", a.Ejected(), c.pods, c.share, c.want)
			}
			a.Remove(hello)
			if a.Ejected() != 0 {
				t.Errorf("%v ejected of a revision that is gone, want 0", a.Ejected())
			}
		})
	}
}

// TestEjectedComeBackWhenOthersGo: the last pods are used, whatever they did.
func TestEjectedComeBackWhenOthersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := outliers(t, 4, Outlier{Failures: 1})
		end(r.pods["pod-0000"], broken)
		time.Sleep(time.Second)
		end(r.pods["pod-0001"], broken)
		publish(a, 2, readyPods(2, nil)...) // the two healthy ones go
		if a.Ejected() != 1 || !isAvailable(r.pods["pod-0000"]) {
			t.Errorf("%v ejected, the first of them is back: %v; want 1 and true", a.Ejected(), isAvailable(r.pods["pod-0000"]))
		}
		s := *r.settings.Load()
		s.Outlier = Outlier{}
		a.Put(hello, s)
		if a.Ejected() != 0 {
			t.Errorf("%v ejected with ejection switched off, want 0", a.Ejected())
		}
	})
}

// TestNeverNobody plays random ends, times and pods: as long as a pod is ready there is one that is not ejected, and
// the share holds.
func TestNeverNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := randomLife{
			o:    Outlier{Failures: rapid.IntRange(1, 3).Draw(rt, "failures"), Share: rapid.Float64Range(0.01, 1).Draw(rt, "share")},
			pods: rapid.IntRange(0, 9).Draw(rt, "pods"),
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			l.steps = append(l.steps, [2]int{rapid.IntRange(0, 9).Draw(rt, "step"), rapid.IntRange(0, 20).Draw(rt, "what")})
		}
		synctest.Test(t, func(t *testing.T) { l.play(t) })
		if l.wrong != "" {
			rt.Fatal(l.wrong)
		}
	})
}

// randomLife is drawn before it is played, since rapid gives up a try by a panic.
type randomLife struct {
	o     Outlier
	pods  int
	steps [][2]int
	wrong string
}

func (l *randomLife) play(t *testing.T) {
	a, r := outliers(t, l.pods, l.o)
	defer a.Remove(hello)
	for i, step := range l.steps {
		switch list, what := r.rotations[all].pods, step[1]; {
		case step[0] == 0:
			l.pods = what % 10
			publish(a, uint64(i+2), readyPods(l.pods, nil)...)
		case step[0] == 1:
			time.Sleep(time.Duration(1+what) * time.Second)
			synctest.Wait()
		case len(list) > 0:
			end(list[what%len(list)], []forward.Result{served, broken, broken}[what%3])
		}
		if l.wrong = l.check(a, r); l.wrong != "" {
			return
		}
	}
}

func (l *randomLife) check(a *Activator, r *revision) string {
	out := 0
	for _, p := range r.rotations[all].pods {
		if p.health.outlier {
			out++
		}
	}
	if out != r.outliers || float64(out) != a.Ejected() || out > 0 && out > l.o.atMost(l.pods) {
		return fmt.Sprintf("%d of %d ejected, counted as %d and %v, at most %d allowed", out, l.pods, r.outliers, a.Ejected(), l.o.atMost(l.pods))
	}
	if l.pods == 0 {
		return ""
	}
	p, _, err := r.acquire(breaker.NewWaiter(), 0, false)
	if p == nil || err != nil {
		return fmt.Sprintf("none of %d pods can be picked: %v", l.pods, err)
	}
	p.release(forward.Result{Cause: fault.ClientGone})
	return ""
}

// TestBlocked names the pods whose slots serve nobody now, whatever their requests did.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := outliers(t, 3, Outlier{Failures: 2})
		blocked := func(want ...string) {
			t.Helper()
			if got := a.Blocked(hello); !slices.Equal(got, want) {
				t.Errorf("Blocked = %v, want %v", got, want)
			}
		}
		blocked()
		refused, bad := r.pods["pod-0000"], r.pods["pod-0001"]
		end(refused, forward.Result{Cause: fault.NotAdmitted, Retryable: true})
		end(bad, broken)
		end(bad, broken)
		blocked("pod-0000", "pod-0001")
		time.Sleep(ejectFirst)
		synctest.Wait()
		blocked("pod-0001")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		blocked()
		r.mu.Lock()
		bad.take() // the one request that it is tried with
		r.mu.Unlock()
		blocked("pod-0001")
		bad.release(served)
		blocked()
		eps := readyPods(3, nil)
		eps[0].State, eps[1].State = endpoint.Draining, endpoint.Starting
		s := *r.settings.Load()
		s.Probe.By = TCPProbe
		a.Put(hello, s)
		publish(a, 2, eps...)
		blocked("pod-0001")
		a.Remove(hello)
		if got := a.Blocked(hello); got != nil {
			t.Errorf("Blocked of a revision that is gone = %v, want none", got)
		}
	})
}

// TestTheOnlyPodWithSlotsIsBackSoon: an outlier that all slots are in is left alone for a second, in which control can give
// others; with others it is an outlier as any.
func TestTheOnlyPodWithSlotsIsBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := outliers(t, 3, Outlier{Failures: 1})
		bad := r.pods["pod-0000"]
		back := func(after time.Duration) {
			t.Helper()
			time.Sleep(after - 1)
			synctest.Wait()
			if isAvailable(bad) {
				t.Fatalf("back before %s", after)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if !isAvailable(bad) || a.Ejected() != 0 {
				t.Fatalf("not back after %s", after)
			}
		}
		a.Grant(hello, map[string]int{"pod-0000": 5, "pod-0001": 0})
		end(bad, broken)
		back(ejectMax)
		a.Grant(hello, map[string]int{"pod-0000": 5, "pod-0001": 1})
		end(bad, broken)
		back(20 * time.Second) // the second time in a row
		end(bad, broken)
		time.Sleep(time.Second)
		a.Grant(hello, map[string]int{"pod-0000": 5})
		back(ejectMax)
		a.Remove(hello)
	})
}
