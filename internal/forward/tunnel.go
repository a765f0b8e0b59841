package forward

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// tunnelEnd is one side of an upgraded connection.
type tunnelEnd struct {
	sock *sock
	// ahead are bytes that were read from the connection beyond the head; they go to the other side first. They stay
	// valid until tunnel returns.
	ahead []byte
}

// tunnel copies both ways until both directions have ended or one has failed, keeping half-closes. idle, when
// positive, ends it with [fault.TimeoutIdle] when no byte has moved in either direction for so long. It closes no
// connection for good: its caller does, on every outcome; a connection closed by another goroutine ends it. It
// returns the bytes that went up to the pod and down to the client.
//
// A direction that waits holds no buffer, so a silent tunnel costs its two goroutines.
func tunnel(client, upstream tunnelEnd, idle time.Duration) (up, down int64, err error) {
	t := &tunnelRun{ends: [2]*sock{client.sock, upstream.sock}, idle: idle, began: time.Now()}
	for _, s := range t.ends {
		s.moved, s.clock = &t.moved, t.clock
	}
	t.watch()
	done := make(chan struct{})
	go func() {
		defer close(done)
		up = t.copyHalf(upstream.sock, client)
	}()
	down = t.copyHalf(client.sock, upstream)
	<-done
	return up, down, t.finish()
}

// tunnelRun is a tunnel while it is open.
type tunnelRun struct {
	ends  [2]*sock
	idle  time.Duration
	began time.Time
	moved atomic.Int64 // when a byte last moved, after began

	mu    sync.Mutex // guards the following
	timer *time.Timer
	err   error // what ended the tunnel early
	over  bool
}

func (t *tunnelRun) clock() int64 { return int64(time.Since(t.began)) }

// copyHalf copies one direction, and passes its end on.
func (t *tunnelRun) copyHalf(dst *sock, src tunnelEnd) (copied int64) {
	err := dst.write(src.ahead)
	if err == nil {
		copied, err = t.pump(dst, src.sock)
		copied += int64(len(src.ahead))
	}
	if err != nil {
		t.cut(err)
		return copied
	}
	if half, ok := dst.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	return copied
}

func (t *tunnelRun) pump(dst, src *sock) (copied int64, err error) {
	for {
		b, n, err := src.readFresh(0, bigSize)
		if errors.Is(err, io.EOF) {
			return copied, nil
		}
		if err != nil {
			return copied, err
		}
		err = dst.write(b.b[:n])
		src.bufs.putBig(b)
		if err != nil {
			return copied, err
		}
		copied += int64(n)
	}
}

// cut ends both directions. The first reason stays.
func (t *tunnelRun) cut(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.over, t.err = true, err
	for _, s := range t.ends {
		_ = s.SetDeadline(past())
	}
}

func (t *tunnelRun) finish() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.timer != nil {
		t.timer.Stop()
	}
	return t.err
}

// watch starts the idle timer. It is not touched as bytes move, but looks when they last did.
func (t *tunnelRun) watch() {
	if t.idle <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(t.idle, func() {
		silent := time.Duration(t.clock() - t.moved.Load())
		if silent >= t.idle {
			t.cut(fault.TimeoutIdle)
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.over {
			t.timer.Reset(t.idle - silent)
		}
	})
}
