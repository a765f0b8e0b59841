package readiness

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// kubelet is how long after its beginning a probe worker of kubelet's changes its mind about a pod that was the other. One question
// follows the other, at the ticks of a period; a tick that comes meanwhile is not lost
// (https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/prober/worker.go).
func kubelet(t *testing.T, to bool, period, timeout time.Duration, threshold int, ask func(context.Context) bool) time.Duration {
	t.Helper()
	began, ticks := time.Now(), time.NewTicker(period)
	defer ticks.Stop()
	for run := 0; time.Since(began) < time.Hour; <-ticks.C {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		got := ask(ctx)
		cancel()
		if run++; got != to {
			run = 0
		}
		if run >= threshold {
			return time.Since(began)
		}
	}
	t.Fatal("kubelet keeps its mind")
	return 0
}

// moody is an application that answers, or does what it does instead.
type moody struct {
	instead atomic.Pointer[func(context.Context) error]
	tries   atomic.Int64
}

func (m *moody) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	m.tries.Add(1)
	if instead := m.instead.Load(); instead != nil {
		return nil, (*instead)(ctx)
	}
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

// direct asks the application as kubelet does.
func (m *moody) direct(ctx context.Context) bool {
	_, err := m.dial(ctx, "", "")
	return err == nil
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// timing is that of a probe.
type timing struct{ period, timeout, failures, successes int }

// through returns how long kubelet takes to change its mind when it asks the way of package inject.
func (p timing) through(t *testing.T, to bool, threshold int, q *Prober) time.Duration {
	t.Helper()
	return kubelet(t, to, askPeriod, seconds(p.period+p.timeout), threshold, func(ctx context.Context) bool {
		ready := q.Ready(t.Context())
		return ready && ctx.Err() == nil
	})
}

// holds compares kubelet's own questions with those through a queue-proxy.
func (p timing) holds(t *testing.T, fails func(context.Context) error) {
	a := new(moody)
	probes, err := Decode(fmt.Sprintf(`{"tcpSocket":{"port":1},"periodSeconds":%d,"timeoutSeconds":%d,"failureThreshold":%d,"successThreshold":%d}`,
		p.period, p.timeout, p.failures, p.successes), 1)
	if err != nil {
		t.Fatal(err)
	}
	q := New(Config{Probes: probes, Dial: a.dial, Paced: true})
	if took := p.through(t, true, p.successes, q); took > seconds(p.successes-1) {
		t.Errorf("the pod is ready after %s", took)
	}
	before, began, calm := a.tries.Load(), time.Now(), seconds(20*p.period)
	kubelet(t, false, askPeriod, seconds(p.period+p.timeout), 1, func(context.Context) bool { return q.Ready(t.Context()) && time.Since(began) < calm })
	if n := a.tries.Load() - before; n < 19 || n > 21 {
		t.Errorf("in 20 periods the application was asked %d times", n)
	}
	a.instead.Store(&fails)
	want := kubelet(t, false, seconds(p.period), seconds(p.timeout), p.failures, a.direct)
	if got := p.through(t, false, p.failures, q); got < want || got > want+seconds(p.period) { // it is asked first up to a period later
		t.Errorf("it leaves after %s, want %s to %s", got, want, want+seconds(p.period))
	}
	a.instead.Store(nil)
	if took := p.through(t, true, p.successes, q); took > seconds(p.successes) {
		t.Errorf("it is back after %s", took)
	}
}

// TestPace: through a queue-proxy that keeps the pace, an application is asked as often, and a pod leaves rotation as late, as when
// kubelet asks itself; it comes, and comes back, as soon as kubelet's seconds allow.
func TestPace(t *testing.T) {
	for _, p := range []timing{{10, 1, 3, 1}, {10, 5, 3, 1}, {1, 1, 3, 1}, {1, 5, 2, 1}, {30, 2, 1, 1}, {5, 5, 4, 3}, {3, 10, 3, 2}} {
		for name, fails := range map[string]func(context.Context) error{
			"hangs":      func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			"refuses":    func(context.Context) error { return syscall.ECONNREFUSED },
			"answers no": func(context.Context) error { return syscall.ECONNRESET },
			"is slow": func(ctx context.Context) error {
				wait(ctx, 700*time.Millisecond)
				return syscall.ECONNRESET
			},
		} {
			t.Run(fmt.Sprintf("%+v %s", p, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { p.holds(t, fails) })
			})
		}
	}
}

// TestPaceEndsWithTheDrain: an answer that waits for the next question is given up.
func TestPaceEndsWithTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(moody)
		q := New(Config{Probes: []Probe{{Kind: TCP, Timeout: time.Second, Period: time.Hour, SuccessThreshold: 1, FailureThreshold: 3}}, Dial: a.dial, Paced: true})
		no := func(context.Context) error { return syscall.ECONNRESET }
		q.Ready(t.Context())
		time.Sleep(time.Hour)
		a.instead.Store(&no)
		q.Ready(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if q.Ready(ctx) || time.Since(began) != time.Second {
			t.Errorf("answered after %s", time.Since(began))
		}
	})
}
