package forward

import (
	"crypto/tls"
	"os"
	"sync"
	"syscall"
)

// watch tells connections that their client has left. One epoll instance of the server's own, with one goroutine,
// holds every client's descriptor once, edge-triggered and without EPOLLIN: data costs nothing, a FIN or a reset
// wakes it. The instance itself waits in Go's poller, so that it takes no thread.
type watch struct {
	start sync.Once
	epfd  int
	file  *os.File // nil when the system gave no instance: leaving clients are noticed when they are written to
	done  chan struct{}

	mu    sync.Mutex
	conns map[int32]*conn // by descriptor; guarded by mu
	next  int32           // guarded by mu
}

const hangupEvents = syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLRDHUP | -syscall.EPOLLET

func newWatch() *watch { return &watch{conns: make(map[int32]*conn)} }

func (w *watch) open() {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return
	}
	w.epfd, w.file, w.done = fd, os.NewFile(uintptr(fd), "client watch"), make(chan struct{})
	go w.run()
}

// add watches c's descriptor, if it has one.
func (w *watch) add(c *conn) {
	raw := c.client.raw
	if t, ok := c.client.Conn.(*tls.Conn); ok {
		raw = rawConn(t.NetConn())
	}
	if raw == nil {
		return
	}
	w.start.Do(w.open)
	if w.file == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.next++
		c.watchFD, c.watchID = int32(fd), w.next
		ev := syscall.EpollEvent{Events: uint32(hangupEvents & 0xffffffff), Fd: c.watchFD, Pad: c.watchID}
		if syscall.EpollCtl(w.epfd, syscall.EPOLL_CTL_ADD, int(fd), &ev) == nil {
			w.conns[c.watchFD] = c
			c.watched = true
		}
	})
}

// remove forgets c, before its descriptor is closed or given to somebody else.
func (w *watch) remove(c *conn) {
	if !c.watched {
		return
	}
	c.watched = false
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[c.watchFD] == c {
		delete(w.conns, c.watchFD)
		_ = syscall.EpollCtl(w.epfd, syscall.EPOLL_CTL_DEL, int(c.watchFD), nil)
	}
}

func (w *watch) run() {
	defer close(w.done)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	var events [64]syscall.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events[:], 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, ev := range events[:n] {
			w.mu.Lock()
			c := w.conns[ev.Fd]
			w.mu.Unlock()
			if c != nil && c.watchID == ev.Pad {
				c.hangup()
			}
		}
	}
}

// close ends the watch; no connection is left.
func (w *watch) close() {
	w.start.Do(func() {})
	if w.file != nil {
		w.file.Close()
		<-w.done
	}
}
