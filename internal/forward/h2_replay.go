package forward

import (
	"errors"
	"io"
	"sync"
)

// errReplayLost reports that a body cannot be sent from its start again: more was consumed than is kept.
var errReplayLost = errors.New("request body was consumed beyond what is kept for another try")

// replay is a request body that several attempts can read from its start, as long as no more than limit bytes of it
// were consumed. It outlives the exchange: net/http may read a body after RoundTrip has returned, so nothing in here
// belongs to a pool, and an attempt that was given up never takes bytes away from the next one.
//
// It is safe for concurrent use: reads of the source are made by one goroutine at a time.
type replay struct {
	src    io.Reader
	limit  int
	moved  func() // called after each read that brought bytes; nil for none
	reads  sync.Cond
	mu     sync.Mutex // guards the following
	kept   []byte
	sealed bool  // nothing is kept any more: the response has begun
	taken  int64 // bytes read from src
	busy   bool  // a goroutine reads src
	err    error // how src ended
}

func newReplay(src io.Reader, limit int, moved func()) *replay {
	r := &replay{src: src, limit: limit, moved: moved}
	r.reads.L = &r.mu
	return r
}

// attempt returns a reader from the first byte on, for one attempt.
func (r *replay) attempt() (*replayReader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.intact() {
		return nil, errReplayLost
	}
	return &replayReader{body: r}, nil
}

// replayable reports that a new attempt would see the whole body.
func (r *replay) replayable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.intact()
}

func (r *replay) intact() bool { return !r.sealed && r.taken == int64(len(r.kept)) }

// seal stops keeping bytes: there will be no other attempt.
func (r *replay) seal() {
	r.mu.Lock()
	r.sealed = true
	r.mu.Unlock()
}

// failed returns the error by which the client's side of the body ended, nil when it ended well or not at all.
func (r *replay) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// consumed returns how many bytes were read from the client.
func (r *replay) consumed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// replayReader is one attempt's view of the body.
type replayReader struct {
	body   *replay
	pos    int
	closed bool // guarded by body.mu
}

// Read implements [io.Reader]. A read that blocks in the source ends with the client's request, not with Close.
func (a *replayReader) Read(p []byte) (int, error) {
	r := a.body
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case a.closed:
			return 0, errReplayLost
		case r.sealed && a.pos > 0 && a.pos == len(r.kept):
			r.kept, a.pos = nil, 0 // no other attempt will come
		case a.pos < len(r.kept):
			n := copy(p, r.kept[a.pos:])
			a.pos += n
			return n, nil
		case r.err != nil:
			return 0, r.err
		case r.busy:
			r.reads.Wait()
		default:
			if n, direct := r.fill(p); direct {
				return n, nil
			}
		}
	}
}

// fill reads the source once, into kept while that has room, else into p, which the second result says. It is called
// with the lock held and gives it up while it blocks. Bytes go past kept only when it is full, so a reader that was
// given up in the meantime cannot have taken bytes that another attempt still needs.
func (r *replay) fill(p []byte) (n int, direct bool) {
	room := r.limit - len(r.kept)
	direct = r.sealed || room <= 0
	if !direct && len(p) > room {
		p = p[:room]
	}
	r.busy = true
	r.mu.Unlock()
	n, err := r.src.Read(p)
	if n > 0 && r.moved != nil {
		r.moved()
	}
	r.mu.Lock()
	r.busy = false
	r.taken += int64(n)
	r.err = err
	if !direct {
		r.kept = append(r.kept, p[:n]...)
	}
	r.reads.Broadcast()
	return n, direct && n > 0
}

// Close gives the attempt up. The client's body stays open: another attempt may need it.
func (a *replayReader) Close() error {
	a.body.mu.Lock()
	a.closed = true
	a.body.reads.Broadcast()
	a.body.mu.Unlock()
	return nil
}
