package assign

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// TestShardsTakeTurns: one that always has something to say to an activator does not keep the others from it.
func TestShardsTakeTurns(t *testing.T) {
	s, err := NewServer(ServerConfig{Shards: 3})
	if err != nil {
		t.Fatal(err)
	}
	st := &session{s: s, more: make(chan struct{}, 1), unsent: map[int]*unsent{}, former: map[int]uint64{}, known: map[identity.Revision]*known{}}
	s.streams[st] = struct{}{}
	for shard := range 3 {
		s.PutRevision(Revision{ID: rev(fmt.Sprint(shard)), Shard: shard})
		s.Own(shard, 1)
	}
	for i := range 9 {
		d := st.take()
		if d == nil || d.Shard != i%3 {
			t.Fatalf("frame %d = %+v, want one of shard %d", i, d, i%3)
		}
		s.Fail(rev("0"), fmt.Sprint("reason ", i)) // always something new of the first
		if i < 6 {
			s.Fail(rev("1"), fmt.Sprint("reason ", i))
			s.Fail(rev("2"), fmt.Sprint("reason ", i))
		}
	}
}

// TestAReportThatIsTooLargeForOneFrame: an activator of very many pods says everything in frames that control takes, and
// its goodbye with the last.
func TestAReportThatIsTooLargeForOneFrame(t *testing.T) {
	l := &link{more: make(chan struct{}, 1)}
	const revisions, pods = 100, 500
	bounds, uids := map[string]int{}, make([]string, pods)
	for i := range uids {
		uids[i] = fmt.Sprintf("0b6e6a1c-5a0e-4f6e-9d0e-%012d", i)
		bounds[uids[i]] = 1000
	}
	l.put(func(o *outbox) {
		o.state = stateGoodbye
		o.ports[1] = wirePortState{Port: 1}
		for i := range revisions {
			id := rev(fmt.Sprint("a-revision-with-a-long-name-", i))
			o.acks[id] = wireAck{ID: idOf(id), Bounds: bounds}
			o.loads[id] = wireLoad{ID: idOf(id), Use: bounds, Blocked: uids}
			o.idle[id] = uids
		}
	})
	acks, loads, idle, ports, frames := 0, 0, 0, 0, 0
	for said := false; !said; frames++ {
		<-l.more
		f := l.take()
		b, err := json.Marshal(f)
		if err != nil || len(b) > maxUp {
			t.Fatalf("a frame of %d bytes, %v; control takes %d", len(b), err, maxUp)
		}
		acks, loads, idle, ports = acks+len(f.Acks), loads+len(f.Loads), idle+len(f.Idle), ports+len(f.Ports)
		said = f.State == stateGoodbye
	}
	if acks != revisions || loads != revisions || idle != revisions || ports != 1 || frames < 2 {
		t.Errorf("%d acks, %d loads, %d idle, %d ports in %d frames", acks, loads, idle, ports, frames)
	}
	if f := l.take(); f != nil {
		t.Errorf("another frame after all was said: %+v", f)
	}
}

// slow is a connection by which little comes at a time. What was sent waits in a buffer, as it would in a kernel's. Close
// ends a Read that waits: who closes may hold a lock that another goroutine is after, and until it has it no time goes by
// in a bubble.
type slow struct {
	net.Conn
	each   time.Duration
	sent   chan []byte
	rest   []byte
	once   sync.Once
	closed chan struct{}
}

func slowly(c net.Conn, each time.Duration) *slow {
	s := &slow{Conn: c, each: each, sent: make(chan []byte, 1000), closed: make(chan struct{})}
	go func() {
		defer close(s.sent)
		for {
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if err != nil {
				return
			}
			s.sent <- b[:n]
		}
	}()
	return s
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		var open bool
		if s.rest, open = <-s.sent; !open {
			return 0, io.EOF
		}
		select {
		case <-time.After(s.each):
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *slow) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// TestAFrameThatComesSlowly: for as long as some of it comes the stream is alive, though pings have no answer meanwhile.
func TestAFrameThatComesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		var pods []endpoint.Endpoint
		for i := range 2000 {
			pods = append(pods, ep(fmt.Sprintf("0b6e6a1c-5a0e-4f6e-9d0e-%012d", i), endpoint.Ready))
		}
		b.srv.Endpoints(snapshot(b.id, 1, pods...))
		w := wireEndpoints{}
		for i := range pods {
			w.Upserted = append(w.Upserted, encodeEndpoint(&pods[i]))
		}
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		cfg := ClientConfig{}.Default()
		least := cfg.Ping + cfg.Pong
		each := (least + time.Second) / time.Duration(len(text)/4096)
		tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := b.net.Load().dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return slowly(c, each), nil
		}}
		c, err := NewClient(ClientConfig{URLs: []string{"ws://control"}, Name: "a", HTTP: &http.Client{Transport: tr}}, newBook())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(ctx) }()
		began := time.Now()
		select {
		case <-c.Synced():
		case <-time.After(time.Minute):
			t.Error("it is never told everything")
		}
		if took := time.Since(began); took < least || c.Counts().Lost != 0 {
			t.Errorf("told after %s, with %d connections lost; want a frame of more than %s, and none", took, c.Counts().Lost, least)
		}
		cancel()
		<-done
		tr.CloseIdleConnections()
	})
}
