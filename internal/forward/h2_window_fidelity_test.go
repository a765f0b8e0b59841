package forward

import (
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"testing"

	"golang.org/x/net/http2"

	"github.com/rousehq/rouse/internal/fault"
)

// settled waits until the server has looked at everything that was sent, and returns how many bytes it takes of a stream.
func (f *framed) settled() (window int) {
	f.t.Helper()
	if err := f.WritePing(false, [8]byte{1}); err != nil {
		f.t.Fatal(err)
	}
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if v, ok := fr.Value(http2.SettingInitialWindowSize); ok {
				window = int(v)
			}
		case *http2.PingFrame:
			if fr.IsAck() {
				return window
			}
		}
	}
}

// upload sends n bytes of a body.
func (f *framed) upload(stream uint32, n int, end bool) {
	f.t.Helper()
	for part := make([]byte, 16<<10); n > 0; {
		m := min(n, len(part))
		n -= m
		if err := f.WriteData(stream, end && n == 0, part[:m]); err != nil {
			f.t.Fatal(err)
		}
	}
}

// TestFidelityH2ParkedUploads parks a thousand uploads on four connections, each of which has sent all that it may: they
// hold no more than their windows, and an upload that is served beside them is not held up.
func TestFidelityH2ParkedUploads(t *testing.T) {
	const conns, most = 4, 144 << 10
	t.Cleanup(func() { // other tests look at the memory of this process, and pools keep what they have for two collections
		debug.FreeOSMemory()
		debug.FreeOSMemory()
	})
	release := make(chan struct{})
	app := goApp(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	p := newProxy(t, app, proxyOptions{handler: func(p *proxy, x Exchange) {
		if string(x.Path()) == "/served" {
			p.forward(x)
			return
		}
		<-release
		x.Fail(fault.QueueDeadline, "", 0)
	}})
	t.Cleanup(func() { close(release) })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	post := func(path string) []string {
		return []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", path}
	}
	var last *framed
	window := 0
	for range conns {
		last = p.framed()
		window = last.settled()
		for i := range uint32(maxStreams - 1) {
			last.request(2*i+1, false, post("/parked")...)
			last.upload(2*i+1, window, false)
		}
		last.settled()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int(after.HeapAlloc-before.HeapAlloc) / (conns * (maxStreams - 1)); each > most {
		t.Errorf("a parked upload holds %d bytes, want %d at most", each, most)
	}

	const id = 2*maxStreams - 1
	last.request(id, false, post("/served")...)
	last.upload(id, window, false)
	sent, got := window, 0
	for ended := false; !ended; {
		fr, err := last.ReadFrame()
		if err != nil {
			t.Fatalf("after %d bytes of %d: %v", got, sent, err)
		}
		switch fr := fr.(type) {
		case *http2.WindowUpdateFrame: // the pod reads
			if more := min(int(fr.Increment), 4*window-sent); fr.StreamID == id && more > 0 {
				sent += more
				last.upload(id, more, sent == 4*window)
			}
		case *http2.DataFrame:
			got += len(fr.Data())
			ended = fr.StreamEnded()
			if n := uint32(len(fr.Data())); n > 0 {
				_, _ = last.WriteWindowUpdate(0, n), last.WriteWindowUpdate(id, n)
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("frame = %v", fr)
		}
	}
	if got != 4*window {
		t.Errorf("%d bytes came back, want %d", got, 4*window)
	}
}
