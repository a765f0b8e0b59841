package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// The tests of this file run scaled down with the others, and at full size with ROUSE_FULL=1 (make fidelity-full).
func fullSize() bool { return os.Getenv("ROUSE_FULL") == "1" }

// memoryLimit is what the process may hold while bodies flow: the proxy, the client and the pod together.
const memoryLimit = 64 << 20

// noise is a stream of size bytes that does not repeat, and hashes what it gives.
type noise struct {
	left int64
	n    uint64
	sum  hash.Hash
}

func newNoise(size int64, seed uint64) *noise {
	return &noise{left: size, n: seed << 32, sum: sha256.New()}
}

func (s *noise) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := int(min(s.left, int64(len(p)&^7)))
	for i := 0; i+8 <= n; i += 8 {
		s.n++
		binary.LittleEndian.PutUint64(p[i:], s.n*0x9e3779b97f4a7c15)
	}
	s.left -= int64(n)
	s.sum.Write(p[:n])
	return n, nil
}

// slowly hashes r to its end, in small reads with a pause after each mebibyte.
func slowly(r io.Reader) (size int64, sum []byte, err error) {
	h := sha256.New()
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	b := make([]byte, 9000)
	for {
		n, err := r.Read(b)
		h.Write(b[:n])
		if (size+int64(n))>>20 != size>>20 {
			<-pause.C
		}
		size += int64(n)
		if err == io.EOF {
			return size, h.Sum(nil), nil
		}
		if err != nil {
			return size, nil, err
		}
	}
}

// watchMemory returns a function that ends the watch and tells the most memory that the runtime held.
func watchMemory() (stop func() uint64) {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		most := uint64(0)
		for {
			select {
			case <-tick.C:
				metrics.Read(samples)
				most = max(most, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			case <-done:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-peak
	}
}

// TestFidelityBigBodiesBothWays sends a body through the proxy while another comes back, past slow readers on both
// sides, and hashes every byte. At full size each body has 1 GiB and the process must stay within 64 MiB.
func TestFidelityBigBodiesBothWays(t *testing.T) {
	size := int64(8 << 20)
	if fullSize() {
		size = 1 << 30
	}
	debug.FreeOSMemory()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit * 3 / 4))
	for _, x := range append(crossings, struct {
		name     string
		inbound2 bool
		upstream endpoint.Protocol
	}{"h1 to h1", false, endpoint.H1}) {
		t.Run(x.name, func(t *testing.T) {
			app := func(w http.ResponseWriter, r *http.Request) {
				if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && r.ProtoMajor == 1 {
					t.Error(err)
				}
				_ = http.NewResponseController(w).Flush()
				down := newNoise(size, 2)
				sent := make(chan error, 1)
				go func() {
					_, err := io.CopyBuffer(w, struct{ io.Reader }{down}, make([]byte, 10_000))
					sent <- err
				}()
				n, sum, err := slowly(r.Body)
				if err != nil || n != size {
					t.Errorf("pod received %d bytes: %v", n, err)
				}
				if err := <-sent; err != nil {
					t.Errorf("pod sent: %v", err)
				}
				w.Header().Set(http.TrailerPrefix+"X-Up", string(hexOf(sum)))
				w.Header().Set(http.TrailerPrefix+"X-Down", string(hexOf(down.sum.Sum(nil))))
			}
			p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: x.upstream}})
			up := newNoise(size, 1)
			req, err := http.NewRequest("POST", p.url("/"), struct{ io.Reader }{up})
			if err != nil {
				t.Fatal(err)
			}
			stop := watchMemory()
			began := time.Now()
			res, err := p.client(x.inbound2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			n, sum, err := slowly(res.Body)
			res.Body.Close()
			took, peak := time.Since(began), stop()
			if err != nil || n != size {
				t.Fatalf("client received %d bytes: %v", n, err)
			}
			if got, want := res.Trailer.Get("X-Up"), string(hexOf(up.sum.Sum(nil))); got != want {
				t.Errorf("request hash = %s, want %s", got, want)
			}
			if got, want := string(hexOf(sum)), res.Trailer.Get("X-Down"); got != want {
				t.Errorf("response hash = %s, want %s", got, want)
			}
			if r := p.wantCause(fault.None); r.RequestBytes != size || r.ResponseBytes != size {
				t.Errorf("result = %+v", r)
			}
			if peak > memoryLimit {
				t.Errorf("the process held %d MiB, limit %d", peak>>20, memoryLimit>>20)
			}
			t.Logf("%d MiB each way in %v, peak memory %.1f MiB", size>>20, took.Round(time.Millisecond), float64(peak)/(1<<20))
		})
	}
}

func hexOf(b []byte) []byte {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return out
}

// TestFidelityManyWebSockets has real WebSocket clients talk to an echo server through the proxy, with request limits
// that would cut them if tunnels were requests. At full size it is 1,000 of them for a minute.
func TestFidelityManyWebSockets(t *testing.T) {
	sockets, messages, pause := 100, 10, time.Duration(0)
	limits := Timeouts{Total: time.Minute, Tunnel: time.Minute}
	if fullSize() {
		sockets, messages, pause = 1000, 120, 500*time.Millisecond
		limits = Timeouts{Total: 20 * time.Second, FirstByte: 20 * time.Second, Idle: 20 * time.Second, Tunnel: 30 * time.Second}
	}
	app := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), kind, b); err != nil {
				t.Errorf("echo: %v", err)
				return
			}
		}
	}
	p := newProxy(t, goApp(t, app), proxyOptions{before: func(x Exchange) { x.SetTimeouts(limits) }})
	var echoed atomic.Int64
	errs := make(chan error, sockets)
	open := make(chan struct{}, 50) // handshakes at a time
	for range sockets {
		go func() { errs <- echo(t.Context(), p.url("/ws"), messages, pause, open, &echoed) }()
	}
	for range sockets {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for range sockets {
		if r := p.result(); !r.Upgraded {
			t.Fatalf("result = %+v", r)
		}
	}
	if got := echoed.Load(); got != int64(sockets)*int64(messages) {
		t.Errorf("%d messages came back, want %d", got, sockets*messages)
	}
	t.Logf("%d sockets, %d messages echoed", sockets, echoed.Load())
}

func echo(ctx context.Context, url string, messages int, pause time.Duration, open chan struct{}, echoed *atomic.Int64) error {
	open <- struct{}{}
	c, _, err := websocket.Dial(ctx, url, nil)
	<-open
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	tick := time.NewTimer(pause)
	defer tick.Stop()
	for i := range messages {
		<-tick.C
		tick.Reset(pause)
		want := bytes.Repeat([]byte{byte(i)}, 1+i*37%5000)
		if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return errors.New("a message came back changed")
		}
		echoed.Add(1)
	}
	return c.Close(websocket.StatusNormalClosure, "")
}
