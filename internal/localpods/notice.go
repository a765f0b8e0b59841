package localpods

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"sync"
)

// notice listens to what one queue-proxy says of itself, by the protocol of sd_notify(3). Close it.
type notice struct {
	name     string // for NOTIFY_SOCKET
	conn     *net.UnixConn
	stopping chan struct{} // closed when the queue-proxy was told to stop
	reading  sync.WaitGroup
}

// noticeSize is more than the messages that matter take.
const noticeSize = 512

// listenForNotice opens a socket in the abstract namespace, which leaves nothing behind. Its name cannot be guessed.
func listenForNotice() (*notice, error) {
	n := &notice{name: "@rouse-" + rand.Text(), stopping: make(chan struct{})}
	var err error
	if n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.name, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	n.reading.Go(n.read)
	return n, nil
}

// read ends with close.
func (n *notice) read() {
	b := make([]byte, noticeSize)
	said := false
	for {
		size, err := n.conn.Read(b)
		if err != nil {
			return
		}
		for line := range bytes.Lines(b[:size]) {
			if !said && string(bytes.TrimSpace(line)) == "STOPPING=1" {
				said = true
				close(n.stopping)
			}
		}
	}
}

// close ends the listening and waits for it.
func (n *notice) close() {
	_ = n.conn.Close() // nothing is lost with it
	n.reading.Wait()
}
