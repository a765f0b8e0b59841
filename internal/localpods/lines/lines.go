// Package lines reads what programs write, line by line in bounded memory, and keeps the last of it.
//
// A Ring and a Tail are safe for concurrent use; Read blocks until its reader ends.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// Read calls line with every line of r, without its end, until r ends. A line longer than the buffer comes in
// pieces of max bytes, so that a program which never ends one costs no more memory than that.
func Read(r io.Reader, max int, line func(string)) {
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

// Ring keeps the last values it was given. It is safe for concurrent use.
type Ring[T any] struct {
	mu   sync.Mutex
	buf  []T // guarded by mu
	next int // guarded by mu; where the next value goes once buf is full
	max  int
}

// NewRing returns a ring for up to max values, which must be above 0.
func NewRing[T any](max int) *Ring[T] { return &Ring[T]{max: max} }

// Add appends a value; the oldest makes room for it.
func (r *Ring[T]) Add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buf) < r.max {
		r.buf = append(r.buf, v)
		return
	}
	r.buf[r.next] = v
	r.next = (r.next + 1) % r.max
}

// Last returns up to n of the newest values, oldest first. n < 0 means all.
func (r *Ring[T]) Last(n int) []T {
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

// Tail keeps the last lines of one process. Standard error is what tells why a program ended, so standard output is
// kept apart and only shown when there is nothing else.
type Tail struct {
	stderr *Ring[string]
	stdout *Ring[string]
}

// NewTail returns a tail of up to n lines of each stream.
func NewTail(n int) *Tail {
	return &Tail{stderr: NewRing[string](n), stdout: NewRing[string](n)}
}

// Add appends a line of one of the streams.
func (t *Tail) Add(stderr bool, text string) {
	if stderr {
		t.stderr.Add(text)
		return
	}
	t.stdout.Add(text)
}

// Lines returns the last lines, oldest first.
func (t *Tail) Lines() []string {
	if l := t.stderr.Last(-1); len(l) > 0 {
		return l
	}
	return t.stdout.Last(-1)
}
