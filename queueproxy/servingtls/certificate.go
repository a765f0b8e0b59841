// Package servingtls holds the certificate of the encrypted serving port and takes a new one without a restart.
//
// Promises: the files are looked at again at a handshake, at most once per second; when either has changed, both are
// read. A pair that cannot be used is logged and the one in force stays, so that a half-written rotation cuts nobody
// off. Connections that are open keep what they negotiated.
//
// It watches nothing and has no goroutine: a port that nobody connects to needs no fresh certificate.
package servingtls

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how long a look at the files is good for.
const lookEvery = time.Second

// Certificate is a key pair in two files. It is safe for concurrent use. Make one with [Load].
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex // guards the following
	pair   *tls.Certificate
	seen   [2]stamp
	looked time.Time
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// Load reads the pair. It fails when the files cannot be read or do not belong together.
func Load(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	seen, err := c.stamps()
	if err != nil {
		return nil, err
	}
	c.seen = seen
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the pair in force, for tls.Config.GetCertificate. It never fails.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookEvery {
		return c.pair, nil
	}
	c.looked = now
	seen, err := c.stamps()
	if err == nil && seen != c.seen {
		c.seen = seen
		err = c.read()
	}
	if err != nil && c.log != nil {
		c.log.Error("the serving certificate was not reloaded, the one in force stays", "error", err.Error())
	}
	return c.pair, nil
}

// stamps follows links: Kubernetes swaps the directory that they lead to.
func (c *Certificate) stamps() (seen [2]stamp, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return seen, fmt.Errorf("serving certificate: %w", err)
		}
		seen[i] = stamp{info.ModTime(), info.Size()}
	}
	return seen, nil
}

// read takes the pair from the files. The caller holds mu, or nobody else has c yet.
func (c *Certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("serving certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.pair = &pair
	return nil
}
