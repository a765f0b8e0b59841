package localpods

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// readLines calls line with every line of r, without its end, until r ends. A line longer than the buffer comes in
// pieces of max bytes, so that a program which never ends one costs no more memory than that.
func readLines(r io.Reader, max int, line func(string)) {
	br := bufio.NewReaderSize(r, max)
	for {
		b, err := br.ReadSlice('\n')
		if len(b) > 0 {
			b = bytes.TrimSuffix(b, []byte("\n"))
			line(string(bytes.TrimSuffix(b, []byte("\r"))))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // the end, or a pipe that was closed under us: both end the process's output
		}
	}
}

// ring keeps the last values it was given. It is safe for concurrent use.
type ring[T any] struct {
	mu   sync.Mutex
	buf  []T // guarded by mu
	next int // guarded by mu; where the next value goes once buf is full
	max  int
}

func newRing[T any](max int) *ring[T] { return &ring[T]{max: max} }

func (r *ring[T]) add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buf) < r.max {
		r.buf = append(r.buf, v)
		return
	}
	r.buf[r.next] = v
	r.next = (r.next + 1) % r.max
}

// last returns up to n of the newest values, oldest first. n < 0 means all.
func (r *ring[T]) last(n int) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < 0 || n > len(r.buf) {
		n = len(r.buf)
	}
	out := make([]T, 0, n)
	for i := len(r.buf) - n; i < len(r.buf); i++ {
		out = append(out, r.buf[(r.next+i)%len(r.buf)])
	}
	return out
}

// tail keeps the last lines of one process. Standard error is what tells why a program ended, so standard output is
// kept apart and only shown when there is nothing else.
type tail struct {
	stderr *ring[string]
	stdout *ring[string]
}

func newTail(lines int) *tail {
	return &tail{stderr: newRing[string](lines), stdout: newRing[string](lines)}
}

func (t *tail) add(stderr bool, text string) {
	if stderr {
		t.stderr.add(text)
		return
	}
	t.stdout.add(text)
}

func (t *tail) lines() []string {
	if l := t.stderr.last(-1); len(l) > 0 {
		return l
	}
	return t.stdout.last(-1)
}

// PrefixWriter returns an Output for Deps that writes each line to w behind the name of its pod, whole lines at a time.
// Errors of w are dropped: a closed terminal must not stop the pods.
func PrefixWriter(w io.Writer) func(Line) {
	var mu sync.Mutex
	return func(l Line) {
		mu.Lock()
		defer mu.Unlock()
		if l.Container == containerUser {
			fmt.Fprintf(w, "[%s] %s\n", l.PodUID, l.Text)
			return
		}
		fmt.Fprintf(w, "[%s %s] %s\n", l.PodUID, l.Container, l.Text)
	}
}
