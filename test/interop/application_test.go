package interop

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
)

// application counts what reaches it. A request to /hold stays until release is called.
type application struct {
	port uint16

	mu     sync.Mutex // guards the following
	now    int
	most   int
	total  int
	header http.Header // of the newest request
	host   string
	gate   chan struct{}
}

func startApplication(t *testing.T) *application {
	t.Helper()
	a := &application{gate: make(chan struct{})}
	a.port = a.serve(t, netip.MustParseAddrPort("127.0.0.1:0"))
	return a
}

// serve answers at addr until the test ends, HTTP/1 and HTTP/2 in clear text.
func (a *application) serve(t *testing.T, addr netip.AddrPort) (port uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: a, Protocols: protocols, ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the application: %v", err)
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	gate := a.enter(r)
	defer a.leave()
	switch r.URL.Path {
	case "/hold":
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	case "/echo":
		echo(w, r)
		return
	case "/upgrade":
		upgrade(w, r)
		return
	}
	_, _ = io.WriteString(w, "hello over "+r.Proto) // the client may have left
}

func (a *application) enter(r *http.Request) (gate <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now++
	a.total++
	a.most = max(a.most, a.now)
	a.header, a.host = r.Header.Clone(), r.Host
	return a.gate
}

func (a *application) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
}

// release ends every request to /hold that is here, and lets later ones wait for the next call.
func (a *application) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.gate)
	a.gate = make(chan struct{})
}

func (a *application) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// seen returns how many requests there were, and how many at most at once.
func (a *application) seen() (total, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total, a.most
}

// last returns the newest request's header and host.
func (a *application) last(t *testing.T) (http.Header, string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.header == nil {
		t.Fatal("the application saw no request")
	}
	return a.header, a.host
}

// echo sends each piece of the body back as it comes, and a trailer.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Pieces")
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/2 always is
	w.WriteHeader(http.StatusOK)
	_ = rc.Flush() // the client sees the head before it sends
	pieces, b := 0, make([]byte, 512)
	for {
		n, err := r.Body.Read(b)
		if n > 0 {
			pieces++
			_, _ = w.Write(b[:n])
			_ = rc.Flush()
		}
		if err != nil {
			break
		}
	}
	w.Header().Set("Pieces", strconv.Itoa(pieces))
}

// upgrade leaves HTTP and sends back what comes.
func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "echo" {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}
