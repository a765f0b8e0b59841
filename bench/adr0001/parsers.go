//go:build linux

package main

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/valyala/fasthttp"
)

// parsers is a connection loop and an upstream pool of our own over fasthttp's header parsers and serialisers. It
// copies bodies with a Content-Length itself; others it refuses: this design is measured, not shipped.
type parsers struct {
	up       string
	limiter  *breaker.Breaker
	requests atomic.Int64

	mu   sync.Mutex
	idle []*upstream // guarded by mu
}

type upstream struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

func serveParsers(ln net.Listener, up string) error {
	p := &parsers{up: up, limiter: breaker.New(limit, queue)}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go p.serve(c)
	}
}

// stream is what one client connection reuses.
type stream struct {
	c      net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	req    fasthttp.RequestHeader
	resp   fasthttp.ResponseHeader
	waiter *breaker.Waiter
	remote string
	buf    []byte
	timer  *time.Timer
}

func (p *parsers) serve(c net.Conn) {
	defer c.Close()
	s := &stream{
		c: c, r: bufio.NewReaderSize(c, 4096), w: bufio.NewWriterSize(c, 4096), waiter: breaker.NewWaiter(),
		remote: c.RemoteAddr().(*net.TCPAddr).IP.String(), buf: make([]byte, 32<<10),
	}
	s.req.DisableNormalizing()
	s.resp.DisableNormalizing()
	s.resp.SetNoDefaultContentType(true)
	s.timer = time.AfterFunc(timeout, func() { c.Close() })
	defer s.timer.Stop()
	for p.exchange(s) == nil {
	}
}

func (p *parsers) exchange(s *stream) error {
	if err := s.req.Read(s.r); err != nil {
		return err
	}
	p.requests.Add(1)
	s.timer.Reset(timeout)
	if err := p.limiter.Acquire(s.waiter); err != nil {
		return err
	}
	defer p.limiter.Release()
	for _, name := range hopByHop {
		s.req.Del(name)
	}
	s.req.Add("X-Forwarded-For", s.remote)
	u, err := p.get()
	if err != nil {
		return err
	}
	if err := s.forward(u); err != nil {
		u.Close()
		return err
	}
	p.mu.Lock()
	p.idle = append(p.idle, u)
	p.mu.Unlock()
	return nil
}

func (s *stream) forward(u *upstream) error {
	if err := s.req.Write(u.w); err != nil {
		return err
	}
	if err := s.copyBody(u.w, s.r, s.req.ContentLength()); err != nil {
		return err
	}
	if err := u.w.Flush(); err != nil {
		return err
	}
	if err := s.resp.Read(u.r); err != nil {
		return err
	}
	for _, name := range hopByHop {
		s.resp.Del(name)
	}
	if err := s.resp.Write(s.w); err != nil {
		return err
	}
	if err := s.copyBody(s.w, u.r, s.resp.ContentLength()); err != nil {
		return err
	}
	return s.w.Flush()
}

func (s *stream) copyBody(w *bufio.Writer, r *bufio.Reader, n int) error {
	for n > 0 {
		m, err := r.Read(s.buf[:min(n, len(s.buf))])
		if err != nil {
			return err
		}
		if _, err := w.Write(s.buf[:m]); err != nil {
			return err
		}
		n -= m
	}
	if n == -1 {
		return io.ErrUnexpectedEOF // chunked: not measured
	}
	return nil
}

func (p *parsers) get() (*upstream, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		u := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return u, nil
	}
	p.mu.Unlock()
	c, err := net.Dial("tcp", p.up)
	if err != nil {
		return nil, err
	}
	return &upstream{c, bufio.NewReaderSize(c, 4096), bufio.NewWriterSize(c, 4096)}, nil
}
