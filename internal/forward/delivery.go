package forward

import (
	"errors"
	"io"

	"github.com/rousehq/rouse/internal/fault"
)

// delivery passes a response's body on.
type delivery struct {
	c       *conn
	u       *upConn
	framing responseFraming
	head    []byte // head that is to be written before the body
	big     *buffer
	at, end int   // bytes of the body in big
	left    int64 // of a Content-Length
}

// run writes head and body. It reports whether the response was passed on completely and nothing came behind it.
func (d *delivery) run(r *Result) (reuse bool) {
	var cause fault.Cause
	var err error
	switch d.framing {
	case frameHead, frameNone:
		reuse = d.at == d.end
		err = d.write(nil)
		d.release()
		cause = fault.ClientGone
	case frameLength:
		reuse, cause, err = d.length()
	case frameRaw, frameBare:
		reuse, cause, err = d.chunked()
	default:
		cause, err = d.untilClosed()
	}
	if err == nil {
		return reuse
	}
	if len(d.head) > 0 { // nothing was written yet: the client can be told
		d.c.answered, d.c.status = false, 0
		d.c.begun.Store(false)
	}
	*r = Result{Cause: cause, Err: err, FirstByte: r.FirstByte}
	return false
}

// write writes the head, if it was not, and b.
func (d *delivery) write(b []byte) error {
	head := d.head
	d.head = nil
	if len(b) <= copyLimit && len(head) > 0 && len(head)+len(b) <= cap(head) {
		return d.c.client.write(append(head, b...))
	}
	return d.c.client.write2(head, b)
}

func (d *delivery) release() {
	if d.big != nil {
		d.c.srv.bufs.putBig(d.big)
		d.big = nil
	}
}

func (d *delivery) length() (reuse bool, cause fault.Cause, err error) {
	n := int(min(int64(d.end-d.at), d.left))
	reuse = d.at+n == d.end
	err = d.write(d.big.b[d.at : d.at+n])
	d.release()
	for {
		if err != nil {
			return false, fault.ClientGone, err
		}
		d.left -= int64(n)
		d.c.down += int64(n)
		if d.left == 0 {
			return reuse, fault.None, nil
		}
		if d.big, n, err = d.u.readFresh(0, int(min(d.left, bigSize))); err != nil {
			return false, fault.UpstreamAborted, err
		}
		err = d.c.client.write(d.big.b[:n])
		d.release()
	}
}

// chunked passes a chunked body on, with its trailers; without the coding when the client does not know it.
func (d *delivery) chunked() (reuse bool, cause fault.Cause, err error) {
	dec := &d.c.respDec
	dec.reset(d.framing == frameBare)
	dec.padded = true
	b := d.big.b[d.at:d.end]
	for {
		kept, used, done, err := dec.feed(b)
		if err != nil {
			d.release()
			return false, fault.UpstreamProtocol, errBody
		}
		if len(d.head) > 0 || kept > 0 {
			err = d.write(b[:kept])
		}
		d.release()
		d.c.down = dec.data
		if err != nil {
			return false, fault.ClientGone, err
		}
		if done {
			return used == len(b), fault.None, nil
		}
		n := 0
		if d.big, n, err = d.u.readFresh(0, bigSize); err != nil {
			return false, fault.UpstreamAborted, err
		}
		b = d.big.b[:n]
	}
}

// untilClosed passes on a body that ends with the connection; it is chunked for clients that know that, so that they
// can tell its end from a failure.
func (d *delivery) untilClosed() (fault.Cause, error) {
	if err := d.write(nil); err != nil {
		d.release()
		return fault.ClientGone, err
	}
	n := copy(d.big.b[chunkRoom:bigSize-chunkEnd], d.big.b[d.at:d.end])
	for {
		if err := d.piece(n); err != nil {
			return fault.ClientGone, err
		}
		var err error
		d.big, n, err = d.u.readFresh(chunkRoom, bigSize-chunkRoom-chunkEnd)
		switch {
		case errors.Is(err, io.EOF):
			return fault.ClientGone, d.finish()
		case err != nil:
			return fault.UpstreamAborted, err
		}
	}
}

// piece writes the n bytes at chunkRoom and releases the buffer.
func (d *delivery) piece(n int) error {
	defer d.release()
	if n == 0 {
		return nil
	}
	d.c.down += int64(n)
	b := d.big.b
	if d.framing == frameClose {
		return d.c.client.write(b[chunkRoom : chunkRoom+n])
	}
	copy(b[chunkRoom+n:], "\r\n")
	from := appendChunkSize(b, chunkRoom, n)
	return d.c.client.write(b[from : chunkRoom+n+chunkEnd])
}

func (d *delivery) finish() error {
	if d.framing == frameClose {
		return nil
	}
	return d.c.client.write(lastChunk)
}

var lastChunk = []byte("0\r\n\r\n")
