package launch

import (
	"io"
	"log" //nolint:depguard // what httputil takes
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// delay passes kube-proxy's requests on to the API server, and holds what a watch of EndpointSlices says back for a while: on a large cluster, news
// of endpoints travel for seconds. Bytes are held, not messages, in order, whatever their encoding. A change of the delay counts for what comes
// after it.
type delay struct {
	proxy *httputil.ReverseProxy
	by    atomic.Int64 // nanoseconds
}

// newDelay writes what fails to out: while the API server is stopped, everything does.
func newDelay(apiServer string, t *http.Transport, out io.Writer) *delay {
	target, err := url.Parse(apiServer)
	if err != nil {
		panic("launch: the API server's address is a constant: " + err.Error())
	}
	d := &delay{}
	d.proxy = &httputil.ReverseProxy{
		Transport:     t,
		FlushInterval: -1,
		ErrorLog:      log.New(out, "", log.LstdFlags),
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if q := r.Request.URL; strings.HasSuffix(q.Path, "/endpointslices") && q.Query().Has("watch") {
				r.Body = d.hold(r.Body)
			}
			return nil
		},
	}
	return d
}

func (d *delay) set(by time.Duration) { d.by.Store(int64(by)) }

func (d *delay) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.proxy.ServeHTTP(w, r) }

// chunk is what arrived at once, and when it may go on.
type chunk struct {
	due  time.Time
	data []byte
	err  error
}

// maxHeld bounds the chunks of one watch that wait; then the API server waits.
const maxHeld = 4096

// held is a body whose bytes come late.
type held struct {
	body   io.ReadCloser
	chunks chan chunk
	closed chan struct{}
	once   sync.Once
	rest   []byte
	err    error
}

// hold starts a reader, which ends with the body or when the body is closed.
func (d *delay) hold(body io.ReadCloser) io.ReadCloser {
	h := &held{body: body, chunks: make(chan chunk, maxHeld), closed: make(chan struct{})}
	go func() {
		for {
			buf := make([]byte, 32<<10)
			n, err := body.Read(buf)
			select {
			case h.chunks <- chunk{time.Now().Add(time.Duration(d.by.Load())), buf[:n], err}:
			case <-h.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return h
}

func (h *held) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		if h.err != nil {
			return 0, h.err
		}
		select {
		case c := <-h.chunks:
			if !h.sleep(time.Until(c.due)) {
				return 0, http.ErrBodyReadAfterClose
			}
			h.rest, h.err = c.data, c.err
		case <-h.closed:
			return 0, http.ErrBodyReadAfterClose
		}
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

func (h *held) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.closed:
		return false
	}
}

func (h *held) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.body.Close()
}
