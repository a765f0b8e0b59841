package forward

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memBuffer is how many bytes one direction of a connection in memory holds.
const memBuffer = 64 << 10

// memPipe is one direction of a connection in memory.
type memPipe struct {
	mu       sync.Mutex // guards the following
	changed  sync.Cond
	buf      []byte
	ended    bool // the writer is done
	gone     bool // the reader is gone
	closed   bool // the reader closed its own side
	deadline [2]time.Time
	timer    [2]*time.Timer
}

const (
	forReads = iota
	forWrites
)

func newMemPipe() *memPipe {
	p := &memPipe{}
	p.changed.L = &p.mu
	return p
}

func (p *memPipe) over(which int) bool {
	d := p.deadline[which]
	return !d.IsZero() && !time.Now().Before(d)
}

func (p *memPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.over(forReads):
			return 0, os.ErrDeadlineExceeded
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.changed.Broadcast()
			return n, nil
		case p.ended:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *memPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		switch {
		case p.ended:
			return n, net.ErrClosed
		case p.gone:
			return n, syscall.EPIPE
		case p.over(forWrites):
			return n, os.ErrDeadlineExceeded
		case len(p.buf) < memBuffer:
			m := min(len(b), memBuffer-len(p.buf))
			p.buf = append(p.buf, b[:m]...)
			n, b = n+m, b[m:]
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
	return n, nil
}

func (p *memPipe) set(f func()) {
	p.mu.Lock()
	f()
	p.changed.Broadcast()
	p.mu.Unlock()
}

func (p *memPipe) setDeadline(which int, t time.Time) {
	p.set(func() {
		p.deadline[which] = t
		if p.timer[which] != nil {
			p.timer[which].Stop()
		}
		if !t.IsZero() {
			p.timer[which] = time.AfterFunc(time.Until(t), func() { p.set(func() {}) })
		}
	})
}

// memConn is one end of a connection in memory, with half-closes.
type memConn struct{ in, out *memPipe }

func newMemConns() (near, far *memConn) {
	a, b := newMemPipe(), newMemPipe()
	return &memConn{a, b}, &memConn{b, a}
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }

func (c *memConn) Close() error {
	c.SetDeadline(time.Time{})
	c.in.set(func() { c.in.closed, c.in.gone = true, true })
	return c.CloseWrite()
}

func (c *memConn) CloseWrite() error {
	c.out.set(func() { c.out.ended = true })
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(forReads, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(forWrites, t)
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
func (c *memConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4000} }

// memListener is a listener whose connections are in memory.
type memListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := newMemConns()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
