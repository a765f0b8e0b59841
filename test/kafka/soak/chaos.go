package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// killing kills dispatchers that work. What the group has committed is written down before and after each kill.
func killing(o options, stdout, stderr io.Writer) error {
	b, err := newBook(o)
	if err != nil {
		return err
	}
	defer b.close()
	for i := range o.kills {
		d := self(o, "dispatcher", stderr)
		if err := d.Start(); err != nil {
			return err
		}
		if err := note(o, time.Now(), "start", d.Process.Pid); err != nil {
			return err
		}
		awaitCommit(o, d.Process.Pid)
		time.Sleep(o.every)
		before, err := b.read()
		if err != nil {
			return err
		}
		at := time.Now()
		_ = d.Process.Kill()
		_ = d.Wait()
		after, err := b.read()
		if err != nil {
			return err
		}
		if err := b.write(crash{At: at.UnixMicro(), Read: time.Now().UnixMicro(), Before: before, After: after}); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "kill %d\n", i+1)
	}
	return nil
}

// note writes a mark beside the sink's log: when, what, and of which process.
func note(o options, at time.Time, what string, pid int) error {
	f, err := os.OpenFile(o.log+".marks", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d %s %d\n", at.UnixMicro(), what, pid)
	return err
}

// awaitCommit waits until a dispatcher has committed, so that a kill hits one that works; 20 s at most, because its
// coordinator may be down.
func awaitCommit(o options, pid int) {
	want := fmt.Sprintf(" commit %d\n", pid)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if text, err := os.ReadFile(o.log + ".marks"); err == nil && strings.Contains(string(text), want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// churn lets another member join and leave every two seconds.
func churn(ctx context.Context, o options, stderr io.Writer) {
	for ctx.Err() == nil {
		d := self(o, "dispatcher", stderr)
		if d.Start() != nil || note(o, time.Now(), "start", d.Process.Pid) != nil {
			return
		}
		pause(ctx, 2*time.Second)
		_ = d.Process.Signal(syscall.SIGTERM)
		_ = d.Wait()
		if note(o, time.Now(), "end", d.Process.Pid) != nil {
			return
		}
		pause(ctx, 2*time.Second)
	}
}

// breakBrokers kills a broker, waits, starts it again, and goes on with the next.
func breakBrokers(ctx context.Context, o options, stdout, stderr io.Writer) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprint(i%o.brokers + 1)
		pause(ctx, 5*time.Second)
		for _, what := range []string{"stop", "start"} {
			cmd := exec.Command(o.script, what, id, o.cluster)
			cmd.Stderr = stderr
			if err := cmd.Run(); err != nil {
				fmt.Fprintf(stderr, "broker %s, %s: %v\n", id, what, err)
			}
			fmt.Fprintf(stdout, "broker %s: %s\n", id, what)
			if what == "stop" {
				time.Sleep(3 * time.Second)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
