//go:build linux

package backend

import (
	"bytes"
	"errors"
	"strconv"
)

const maxHead = 64 << 10

var (
	errBadRequest = errors.New("backend: request cannot be read")
	crlf          = []byte("\r\n")
	headEnd       = []byte("\r\n\r\n")
)

// request follows one request through reads of any size. The zero value waits for a head.
type request struct {
	buf     []byte // unread bytes
	head    []byte // the whole head, valid until reset
	target  []byte
	kept    []byte // the body, when keep is set
	keep    bool
	inBody  bool
	chunked bool
	left    int // bytes of the body, or of the chunk with its CRLF, still to come
}

// parseHead takes the head off the buffer when it is complete.
func (r *request) parseHead() (bool, error) {
	end := bytes.Index(r.buf, headEnd)
	if end < 0 {
		if len(r.buf) > maxHead {
			return false, errBadRequest
		}
		return false, nil
	}
	// The head moves to memory of its own: the buffer behind it is reused for the body.
	r.head = append(r.head[:0], r.buf[:end+len(headEnd)]...)
	r.consume(end + len(headEnd))
	line, rest, _ := bytes.Cut(r.head[:end+2], crlf)
	first, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if first < 0 || last <= first {
		return false, errBadRequest
	}
	r.target = line[first+1 : last]
	path, _, _ := bytes.Cut(r.target, []byte{'?'})
	r.inBody, r.keep = true, bytes.Equal(path, []byte("/echo"))
	return true, r.framing(rest)
}

func (r *request) framing(rest []byte) error {
	var line []byte
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, crlf)
		switch name, value, _ := bytes.Cut(line, []byte{':'}); {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || n < 0 {
				return errBadRequest
			}
			r.left = n
		case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
			r.chunked = true
		}
	}
	return nil
}

// takeBody reads the body off the buffer, and reports whether it is complete.
func (r *request) takeBody() (bool, error) {
	if !r.chunked {
		r.take(min(r.left, len(r.buf)), 0)
		return r.left == 0, nil
	}
	for {
		if r.left > 0 {
			r.take(min(r.left, len(r.buf)), 2)
			if r.left > 0 {
				return false, nil
			}
		}
		end := bytes.Index(r.buf, crlf)
		if end < 0 {
			return false, nil
		}
		size, _, _ := bytes.Cut(r.buf[:end], []byte{';'})
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return false, errBadRequest
		}
		if n == 0 {
			return r.trailers(end + 2)
		}
		r.consume(end + 2)
		r.left = int(n) + 2
	}
}

// trailers waits for the blank line after the last chunk.
func (r *request) trailers(after int) (bool, error) {
	rest := r.buf[after:]
	if bytes.HasPrefix(rest, crlf) {
		r.consume(after + 2)
		return true, nil
	}
	end := bytes.Index(rest, headEnd)
	if end < 0 {
		return false, nil
	}
	r.consume(after + end + len(headEnd))
	return true, nil
}

// take moves n bytes out of the buffer, of which the last framing bytes of the part are not the body's.
func (r *request) take(n, framing int) {
	if r.keep {
		r.kept = append(r.kept, r.buf[:max(0, min(n, r.left-framing))]...)
	}
	r.left -= n
	r.consume(n)
}

func (r *request) consume(n int) {
	r.buf = r.buf[:copy(r.buf, r.buf[n:])]
}

// reset makes ready for the next request, keeping the memory.
func (r *request) reset() {
	*r = request{buf: r.buf, head: r.head[:0], kept: r.kept[:0]}
}
