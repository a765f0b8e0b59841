package lifecycle

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal notes what happened, with the virtual time since it was made.
type journal struct {
	mu    sync.Mutex
	began time.Time
	lines []string
}

func newJournal() *journal { return &journal{began: time.Now()} }

func (j *journal) note(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, time.Since(j.began).String()+" "+s)
}

// stage takes up to come up and down to stop.
func (j *journal) stage(name string, up, down time.Duration) Stage {
	ready := make(chan struct{})
	return Stage{
		Name:  name,
		Ready: ready,
		Run: func(ctx context.Context) error {
			j.note(name + " starts")
			select {
			case <-time.After(up):
				close(ready)
			case <-ctx.Done():
				return ctx.Err()
			}
			<-ctx.Done()
			j.note(name + " ends")
			return nil
		},
		Stop: func(ctx context.Context) error {
			j.note(name + " stops")
			select {
			case <-time.After(down):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
}

func TestStartInOrderStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := Run(ctx, 30*time.Second, j.stage("db", time.Second, 0), j.stage("proxy", 2*time.Second, 4*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"0s db starts", "1s proxy starts", "10s proxy stops", "14s proxy ends", "14s db stops", "14s db ends"}
		if d := cmp.Diff(want, j.lines); d != "" {
			t.Error(d)
		}
	})
}

func TestFailingStageStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		broken := errors.New("port taken")
		bad := Stage{Name: "listener", Run: func(context.Context) error { time.Sleep(time.Second); return broken }}
		err := Run(t.Context(), time.Minute, j.stage("db", 0, 0), bad, j.stage("never", 5*time.Second, 0))
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "listener: port taken") {
			t.Errorf("error = %v, want that of the listener", err)
		}
		want := []string{"0s db starts", "0s never starts", "1s never stops", "1s db stops", "1s db ends"}
		if d := cmp.Diff(want, j.lines); d != "" {
			t.Error(d)
		}
	})
}

func TestStageThatEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Run(t.Context(), time.Minute, Stage{Name: "worker", Run: func(context.Context) error { return nil }})
		if err == nil || err.Error() != "worker ended by itself" {
			t.Errorf("error = %v", err)
		}
	})
}

func TestSignalWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Run(ctx, time.Minute, j.stage("slow", time.Hour, 0), j.stage("never", 0, 0)); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"0s slow starts", "1s slow stops"}, j.lines); d != "" {
			t.Error(d)
		}
	})
}

func TestBudgetsStayInsideTheGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		proxy := j.stage("proxy", 0, time.Hour)
		proxy.Budget = 3 * time.Second
		err := Run(ctx, 5*time.Second, j.stage("db", 0, time.Hour), proxy)
		for _, want := range []string{"proxy: ", "db: "} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want it to name %q", err, want)
			}
		}
		want := []string{"0s db starts", "0s proxy starts", "1s proxy stops", "3.4s proxy ends", "3.4s db stops", "5.48s db ends"}
		if d := cmp.Diff(want, j.lines); d != "" {
			t.Error(d)
		}
	})
}

func TestAbandonedStageIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		release := make(chan struct{})
		err := Run(ctx, 2*time.Second, Stage{Name: "stuck", Run: func(context.Context) error { <-release; return nil }})
		if err == nil || !strings.Contains(err.Error(), "stuck: abandoned") {
			t.Errorf("error = %v", err)
		}
		close(release)
	})
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		first, second := make(chan struct{}), make(chan struct{})
		time.AfterFunc(time.Second, func() { close(first) })
		time.AfterFunc(3*time.Second, func() { close(second) })
		err := RunSignals(Signals{first, second}, time.Hour, j.stage("db", 0, time.Hour), j.stage("proxy", 0, time.Hour))
		if !errors.Is(err, ErrForced) {
			t.Errorf("error = %v, want ErrForced", err)
		}
		if took := time.Since(j.began); took != 3*time.Second {
			t.Errorf("ended after %s, want 3s", took)
		}
		synctest.Wait()
	})
}

func TestNotify(t *testing.T) {
	s, stop := Notify()
	defer stop()
	for _, ch := range []<-chan struct{}{s.First, s.Second} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			t.Fatal("the signal did not arrive")
		}
	}
}

func TestDrain(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }
	tests := []struct {
		name  string
		steps func(d *Drain)
		ask   time.Duration
		want  DrainState
		again time.Duration
		force bool
	}{
		{"serving", func(*Drain) {}, time.Hour, Serving, 0, false},
		{"minimum", func(d *Drain) { d.Begin(at(0)) }, 3 * time.Second, Draining, 2 * time.Second, false},
		{"idle at the minimum", func(d *Drain) { d.Begin(at(0)) }, 5 * time.Second, Drained, 0, false},
		{"came late", func(d *Drain) { d.Begin(at(0)); d.Came(at(4 * time.Second)) }, 5 * time.Second, Draining, time.Second, false},
		{"quiet", func(d *Drain) { d.Begin(at(0)); d.Came(at(4 * time.Second)) }, 6 * time.Second, Drained, 0, false},
		{"busy", func(d *Drain) { d.Begin(at(0)); d.Load(1) }, 10 * time.Second, Draining, 20 * time.Second, false},
		{"busy at the deadline", func(d *Drain) { d.Begin(at(0)); d.Load(1) }, 30 * time.Second, Drained, 0, true},
		{"announced", func(d *Drain) { d.Begin(at(0)); d.Came(at(0)); d.Announced() }, 0, Drained, 0, false},
		{"announced and busy", func(d *Drain) { d.Begin(at(0)); d.Announced(); d.Load(1) }, 10 * time.Second, Draining, 20 * time.Second, false},
		{"second begin", func(d *Drain) { d.Begin(at(0)); d.Begin(at(4 * time.Second)) }, 5 * time.Second, Drained, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDrain(DrainConfig{})
			tt.steps(d)
			got, again := d.State(at(tt.ask))
			if got != tt.want || again != tt.again || d.Forced() != tt.force {
				t.Errorf("State = %s, %s, forced %v, want %s, %s, %v", got, again, d.Forced(), tt.want, tt.again, tt.force)
			}
			if d.Ready() != (tt.want == Serving) {
				t.Errorf("Ready = %v in state %s", d.Ready(), got)
			}
		})
	}
}

// TestDrainIsExact: whatever happens, the drain ends at the first instant at which its rule holds.
func TestDrainIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DrainConfig{Minimum: 5, Quiet: 2, Grace: 30}
		d := NewDrain(cfg)
		at := func(n int) time.Time { return time.Unix(0, int64(n)) }
		d.Begin(at(0))
		came, load, ended := -100, 0, false
		for now := range 40 {
			if rapid.IntRange(0, 5).Draw(t, "event") == 0 {
				came = now
				d.Came(at(now))
			}
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				load = rapid.IntRange(0, 2).Draw(t, "load")
				d.Load(load)
			}
			ended = ended || now >= 30 || load == 0 && now >= 5 && now >= came+2
			if s, _ := d.State(at(now)); (s == Drained) != ended {
				t.Fatalf("at %d with load %d, last came %d: %s, want drained %v", now, load, came, s, ended)
			}
		}
	})
}

func TestDrainConfigValidate(t *testing.T) {
	if err := (DrainConfig{}).Default().Validate(); err != nil {
		t.Error(err)
	}
	err := DrainConfig{Minimum: -1, Quiet: -1, Grace: -2}.Validate()
	for _, field := range []string{"Minimum", "Quiet", "Grace"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error = %v, want it to name %s", err, field)
		}
	}
}
