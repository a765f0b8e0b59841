package forward

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// framedPod is a pod on HTTP/2 whose answers a test writes frame by frame. answer is called with each request's headers,
// by one goroutine per connection.
type framedPod struct {
	*app
	trust  *tls.Config // nil in clear text
	answer func(c *podConn, stream uint32)
}

// podConn is one connection of a framedPod.
type podConn struct {
	*framed
	index int // of the connections, from 0
}

func newFramedPod(t testing.TB, encrypted bool, answer func(c *podConn, stream uint32)) *framedPod {
	p := &framedPod{app: &app{t: t, ln: listen(t, false)}, answer: answer}
	ln := p.ln
	if encrypted {
		cert := httptest.NewUnstartedServer(nil)
		cert.StartTLS()
		cert.Close()
		ln = tls.NewListener(ln, &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2"}})
		p.trust = cert.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		p.trust.ServerName = "example.com"
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c, i)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return p
}

func (p *framedPod) serve(c net.Conn, index int) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := &framed{Framer: http2.NewFramer(c, c), t: p.t}
	f.henc = hpack.NewEncoder(&f.hbuf)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = f.WriteSettings()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				_ = f.WritePing(true, fr.Data)
			}
		case *http2.MetaHeadersFrame:
			p.answer(&podConn{f, index}, fr.StreamID)
		}
	}
}

// pool returns the configuration of a pool that leads to the pod.
func (p *framedPod) pool() PoolConfig {
	if p.trust != nil {
		return PoolConfig{Protocol: endpoint.TLS, TLS: p.trust.Clone()}
	}
	return PoolConfig{Protocol: endpoint.H2C}
}

// head writes the headers of an answer, of which fields are names and values.
func (c *podConn) head(stream uint32, end bool, fields ...string) {
	c.hbuf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.henc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: bytes.Clone(c.hbuf.Bytes()), EndStream: end, EndHeaders: true})
}

// eachFramedPod runs a test with clients and pods of either kind.
func eachFramedPod(t *testing.T, answer func(t *testing.T) func(c *podConn, stream uint32), f func(t *testing.T, p *proxy, c *http.Client)) {
	t.Helper()
	for _, inbound2 := range []bool{false, true} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2 %v, TLS %v", inbound2, encrypted), func(t *testing.T) {
				pod := newFramedPod(t, encrypted, answer(t))
				p := newProxy(t, pod.app, proxyOptions{pool: pod.pool()})
				c := p.client(inbound2)
				c.Timeout = patience
				f(t, p, c)
			})
		}
	}
}

// TestFidelityH2ResetStreamIsNotSentAgain has pods that reset a request's stream: their applications may have seen it,
// whatever the code but REFUSED_STREAM.
func TestFidelityH2ResetStreamIsNotSentAgain(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeInternal, http2.ErrCodeCancel} {
		for _, body := range []string{"", "hello"} {
			t.Run(fmt.Sprintf("%v, %d bytes", code, len(body)), func(t *testing.T) {
				var seen atomic.Int64
				answer := func(t *testing.T) func(c *podConn, stream uint32) {
					seen.Store(0)
					return func(c *podConn, stream uint32) {
						if seen.Add(1) > 1 {
							c.head(stream, true, ":status", "200")
							return
						}
						_ = c.WriteRSTStream(stream, code)
					}
				}
				eachFramedPod(t, answer, func(t *testing.T, p *proxy, c *http.Client) {
					res, err := c.Post(p.url("/"), "", strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if r := p.wantCause(fault.UpstreamReset); res.StatusCode != 502 || r.Retryable || seen.Load() != 1 {
						t.Errorf("answer = %d, result %+v; the pod saw the request %d times", res.StatusCode, r, seen.Load())
					}
				})
			})
		}
	}
}

// TestFidelityH2UnprocessedStreamIsSentAgain has pods that say of a request that they will not process it: it goes out
// again, once, over another connection if this one ends.
func TestFidelityH2UnprocessedStreamIsSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(c *podConn, stream uint32){
		"GOAWAY before it": func(c *podConn, stream uint32) { _ = c.WriteGoAway(stream-2, http2.ErrCodeNo, nil) },
		"REFUSED_STREAM":   func(c *podConn, stream uint32) { _ = c.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
	} {
		t.Run(name, func(t *testing.T) {
			answer := func(t *testing.T) func(c *podConn, stream uint32) {
				var streams atomic.Int64
				return func(c *podConn, stream uint32) {
					if streams.Add(1) == 2 {
						refuse(c, stream)
						return
					}
					c.head(stream, true, ":status", "200", "x-stream", fmt.Sprint(streams.Load()))
				}
			}
			eachFramedPod(t, answer, func(t *testing.T, p *proxy, c *http.Client) {
				for _, want := range []string{"1", "3", "4"} {
					res, err := c.Post(p.url("/"), "", strings.NewReader("hello"))
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if got := res.Header.Get("X-Stream"); res.StatusCode != 200 || got != want {
						t.Errorf("answer = %d by the pod's stream %s, want 200 by %s", res.StatusCode, got, want)
					}
					p.wantCause(fault.None)
				}
			})
		})
	}
}

// TestFidelityH2BurstAtFewStreams has a pod that takes ten streams on a connection and answers only when thirty requests
// are there: they come over as many connections as that takes.
func TestFidelityH2BurstAtFewStreams(t *testing.T) {
	const burst = 30
	var there sync.WaitGroup
	there.Add(burst)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	a := &app{t: t, ln: listen(t, false)}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			there.Done()
			there.Wait()
		}),
		Protocols: protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10},
	}
	go func() { _ = srv.Serve(a.ln) }()
	t.Cleanup(func() { srv.Close() })
	p := newProxy(t, a, proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	c := p.client(false)
	var clients sync.WaitGroup
	for range burst {
		clients.Go(func() {
			res, err := c.Post(p.url("/"), "", strings.NewReader("hello"))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("answer = %d", res.StatusCode)
			}
		})
	}
	clients.Wait()
}
