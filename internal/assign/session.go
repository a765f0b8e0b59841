package assign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/control/slots"
	"github.com/rousehq/rouse/internal/identity"
)

const (
	maxUp        = 8 << 20          // bytes of one frame from an activator
	helloTimeout = 5 * time.Second  // for the first frame
	writeTimeout = 10 * time.Second // for one frame: an activator that is slower is cut, and begins anew
)

// session is one connection of an activator. What is unsent is guarded by the server's lock.
type session struct {
	s      *Server
	conn   *websocket.Conn
	act    *activator
	more   chan struct{} // capacity 1: something is unsent
	unsent map[int]*unsent
	former map[int]uint64 // shards that are not ours any more, with our epoch, of which the activator was not told yet
	known  map[identity.Revision]*known
	next   int // shard to look at first for the next frame
}

var (
	errIdle     = errors.New("neither a frame nor a ping came for too long")
	errReplaced = errors.New("the same activator has a newer connection")
)

// stream serves one connection until it ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	idle := time.AfterFunc(s.cfg.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	alive := func() { idle.Reset(s.cfg.Idle) }
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  func(context.Context, []byte) bool { alive(); return true },
	})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }() // it is closed already, or broken
	conn.SetReadLimit(maxUp)
	st := &session{s: s, conn: conn, more: make(chan struct{}, 1), unsent: map[int]*unsent{}, former: map[int]uint64{}, known: map[identity.Revision]*known{}}
	err = st.serve(ctx, cancel, alive)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if s.cfg.Log != nil {
		name := r.RemoteAddr
		if st.act != nil {
			name = st.act.Name
		}
		s.cfg.Log.Info("assignment stream ended", "activator", name, "error", err)
	}
}

// serve greets, and then reads and writes until either fails.
func (st *session) serve(ctx context.Context, cancel context.CancelCauseFunc, alive func()) (err error) {
	first, stop := context.WithTimeout(ctx, helloTimeout)
	frame, err := st.read(first)
	stop()
	if err != nil {
		return fmt.Errorf("before the first frame: %w", err)
	}
	if frame.Hello == nil || frame.Hello.Instance == "" {
		_ = st.conn.Close(websocket.StatusPolicyViolation, "the first frame must say hello, with an instance") // it is told, or gone
		return errors.New("the first frame said no hello")
	}
	alive()
	if !st.join(frame.Hello, cancel) {
		return errors.New("shutting down")
	}
	defer st.leave()
	written := make(chan error, 1)
	life, end := context.WithCancel(ctx)
	go func() { err := st.write(life); end(); written <- err }()
	defer func() { err = errors.Join(err, <-written) }()
	defer end()
	for { // the first frame may say more than hello
		if st.heard(frame); frame.State == stateGoodbye {
			return st.conn.Close(websocket.StatusNormalClosure, "")
		}
		if frame, err = st.read(life); err != nil {
			return err
		}
		alive()
	}
}

func (st *session) read(ctx context.Context) (*up, error) {
	kind, body, err := st.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	frame := &up{}
	if kind != websocket.MessageText {
		err = errors.New("binary frame")
	} else {
		err = json.Unmarshal(body, frame)
	}
	if err != nil {
		_ = st.conn.Close(websocket.StatusInvalidFramePayloadData, "not a frame of the assignment protocol") // it is told, or gone
		return nil, fmt.Errorf("decode: %w", err)
	}
	return frame, nil
}

// write sends what is unsent, as long as ctx lasts.
func (st *session) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-st.more:
		}
		for d := st.take(); d != nil; d = st.take() {
			b, err := json.Marshal(d)
			if err != nil {
				return fmt.Errorf("encode: %w", err)
			}
			deadline, cancel := context.WithTimeout(ctx, writeTimeout)
			err = st.conn.Write(deadline, websocket.MessageText, b)
			cancel()
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}

// join takes the activator in; an older connection of the same process is cut.
func (st *session) join(h *wireHello, cancel context.CancelCauseFunc) bool {
	s := st.s
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	a := s.activators[h.Instance]
	if a == nil {
		a = &activator{}
		s.activators[h.Instance] = a
	}
	if a.cut != nil {
		a.cut(errReplaced)
	}
	if a.expiry != nil {
		a.expiry.Stop()
	}
	a.ActivatorState = ActivatorState{
		Name: h.Name, Addr: h.Addr, Zone: h.Zone, Version: h.Version, Instance: h.Instance, Connected: true,
		Ready: a.Ready, Draining: a.Draining, Ports: map[uint16]string{},
	}
	a.stream, a.cut, a.expiry = st, cancel, nil
	st.act = a
	s.streams[st] = struct{}{}
	for shard := range s.owned {
		st.begin(shard)
	}
	s.mu.Unlock()
	s.changed()
	return true
}

// leave gives the activator some time to come back, unless it said goodbye or is back already.
func (st *session) leave() {
	s := st.s
	s.mu.Lock()
	delete(s.streams, st)
	a := st.act
	if a.stream == st {
		a.stream, a.cut, a.Connected = nil, nil, false
		now := time.Now()
		s.every(func(l *slots.Ledger) { l.Disconnect(now, a.Instance) })
		a.expiry = time.AfterFunc(s.cfg.LeaseTTL, func() { s.forget(a) })
	}
	s.mu.Unlock()
	s.changed()
}

// forget drops an activator that did not come back in time; the accounts have their own clock.
func (s *Server) forget(a *activator) {
	s.mu.Lock()
	gone := a.stream == nil && s.activators[a.Instance] == a
	if gone {
		delete(s.activators, a.Instance)
		s.stir()
	}
	s.mu.Unlock()
	if gone {
		s.changed()
	}
}

// heard takes over one frame.
func (st *session) heard(f *up) {
	s := st.s
	s.mu.Lock()
	if st.act.stream != st { // a newer connection speaks for it
		s.mu.Unlock()
		return
	}
	for i := range f.Acks {
		st.acknowledged(&f.Acks[i])
	}
	for i := range f.Loads {
		st.loaded(&f.Loads[i])
	}
	told := f.State != ""
	for _, p := range f.Ports {
		told = st.port(p) || told
	}
	for i := range f.Idle {
		st.idled(&f.Idle[i])
	}
	switch f.State {
	case stateReady:
		st.act.Ready = true
	case stateDraining:
		st.act.Draining = true
		s.every(func(l *slots.Ledger) { l.Leaving(st.act.Instance) })
	case stateGoodbye:
		s.every(func(l *slots.Ledger) { l.Goodbye(st.act.Instance) })
		delete(s.activators, st.act.Instance)
		st.act.stream = nil
	}
	if f.State != "" {
		s.stir()
	}
	s.mu.Unlock()
	if told {
		s.changed()
	}
}

// port takes over the state of a port, and says whether it was another.
func (st *session) port(p wirePortState) (changed bool) {
	before, known := st.act.Ports[p.Port]
	if !p.Open && p.Reason == "" {
		delete(st.act.Ports, p.Port)
		return known
	}
	reason := p.Reason
	if p.Open {
		reason = ""
	}
	st.act.Ports[p.Port] = reason
	return !known || before != reason
}

// Close tells every activator to connect elsewhere, refuses new ones and waits for the streams to end until ctx does; then
// it cuts them. Activators keep what they were told.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for st := range s.streams {
		s.wg.Go(func() { _ = st.conn.Close(websocket.StatusServiceRestart, "restarting") }) // it is told, or gone
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); s.wg.Wait() }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cutAll()
		<-done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.activators {
		if a.expiry != nil {
			a.expiry.Stop()
		}
	}
	return err
}

func (s *Server) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if st.act.cut != nil {
			st.act.cut(context.Canceled)
		}
	}
}
