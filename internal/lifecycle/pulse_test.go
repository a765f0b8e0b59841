package lifecycle

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPulseBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPulse(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Run(ctx) })
		<-time.After(time.Hour)
		if at := p.Resumed(); !at.IsZero() {
			t.Errorf("resumed at %v, and it ran all the time", at)
		}
		cancel()
		running.Wait()
	})
}

// TestPulseStandsStill: nothing beats for a while, as if the process were stopped.
func TestPulseStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPulse(2 * time.Second)
		<-time.After(time.Minute)
		if at := p.Resumed(); !at.IsZero() {
			t.Errorf("resumed at %v before Run", at)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = p.Run(ctx) // begins, and beats no more
		<-time.After(2 * time.Second)
		if at := p.Resumed(); !at.IsZero() {
			t.Errorf("resumed at %v after the limit exactly", at)
		}
		<-time.After(2*time.Second + time.Millisecond)
		went := time.Now()
		if at := p.Resumed(); !at.Equal(went) {
			t.Errorf("resumed at %v, want %v", at, went)
		}
		<-time.After(time.Second)
		if at := p.Resumed(); !at.Equal(went) {
			t.Errorf("resumed at %v later, want still %v", at, went)
		}
	})
}
