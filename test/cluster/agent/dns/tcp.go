package dns

import (
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// idle is how long a connection may be silent, and maxConns how many there may be: one more waits in the kernel's queue.
const (
	idle     = 10 * time.Second
	maxConns = 64
)

func (s *Server) serveTCP(l *net.TCPListener) {
	var conns sync.WaitGroup
	defer conns.Wait() // each ends within idle
	slots := make(chan struct{}, maxConns)
	for {
		slots <- struct{}{}
		conn, err := l.AcceptTCP()
		if err != nil {
			return // closed
		}
		conns.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			for s.exchange(conn) == nil {
			}
		})
	}
}

// exchange answers one question; messages carry their length in two bytes (RFC 1035, section 4.2.2).
func (s *Server) exchange(conn *net.TCPConn) error {
	if err := conn.SetDeadline(time.Now().Add(idle)); err != nil {
		return err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return err
	}
	answer := s.answer(question, math.MaxUint16)
	if answer == nil {
		return io.ErrUnexpectedEOF
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}
