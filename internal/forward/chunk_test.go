package forward

import (
	"bufio"
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// dechunk feeds all of b in pieces of at most n bytes and returns what was kept.
func dechunk(b []byte, n int, bare bool) (kept []byte, used int, done bool, err error) {
	var d dechunker
	d.reset(bare)
	b = bytes.Clone(b)
	for !done && err == nil && used < len(b) {
		piece := b[used:min(len(b), used+n)]
		var k, u int
		k, u, done, err = d.feed(piece)
		kept = append(kept, piece[:k]...)
		used += u
	}
	return kept, used, done, err
}

func TestDechunker(t *testing.T) {
	long := strings.Repeat("x", maxChunkLine)
	for _, tc := range []struct {
		name, body string
		kept       string // "" means the body is kept as it is
		bare       string
		ok         bool
	}{
		{"empty", "0\r\n\r\n", "", "", true},
		{"one chunk", "5\r\nhello\r\n0\r\n\r\n", "", "hello", true},
		{"two chunks", "1\r\nh\r\nA\r\n0123456789\r\n0\r\n\r\n", "", "h0123456789", true},
		{"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "", "hello", true},
		{"lower and upper case", "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", "", "01234567890123456789a", true},
		{"extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", true},
		{"spaced extension", "5 ; a=\"b\"\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", true},
		{"trailers", "1\r\nh\r\n0\r\nX-Sum: 1\r\nB:\r\n\r\n", "", "h", true},
		{"CRLF in data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "", "\r\n\r\n", true},

		{"sixteen digits", "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", "", "hello", true},
		{"seventeen digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"no size", "\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"plus", "+5\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"minus", "-5\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"hex prefix", "0x5\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"space before size", " 5\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"space behind size", "5 \r\nhello\r\n0\r\n\r\n", "", "", false},
		{"overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"bare LF behind size", "5\nhello\r\n0\r\n\r\n", "", "", false},
		{"bare LF behind data", "5\r\nhello\n0\r\n\r\n", "", "", false},
		{"bare CR in extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"bare LF in extension", "5;a\nhello\r\n0\r\n\r\n", "", "", false},
		{"data too long", "3\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"long extension", "5;" + long + "\r\nhello\r\n0\r\n\r\n", "", "", false},
		{"trailer with fold", "0\r\nX: a\r\n b\r\n\r\n", "", "", false},
		{"trailer without colon", "0\r\nX\r\n\r\n", "", "", false},
		{"trailer with space before colon", "0\r\nX : a\r\n\r\n", "", "", false},
		{"trailer with bare LF", "0\r\nX: a\n\r\n", "", "", false},
		{"trailer with NUL", "0\r\nX: a\x00\r\n\r\n", "", "", false},
		{"trailer that frames", "0\r\nContent-Length: 5\r\n\r\n", "", "", false},
		{"trailer that routes", "0\r\nhOST: b\r\n\r\n", "", "", false},
		{"trailer that codes", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", false},
		{"trailers too long", "0\r\nX: " + strings.Repeat("x", maxTrailer) + "\r\n\r\n", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := tc.kept
			if want == "" {
				want = tc.body
			}
			for _, n := range []int{1, 2, 3, 7, 1 << 20} {
				const behind = "GET / HTTP/1.1\r\n"
				kept, used, done, err := dechunk([]byte(tc.body+behind), n, false)
				if ok := done && err == nil; ok != tc.ok {
					t.Fatalf("in pieces of %d: done %v, %v, want ok %v", n, done, err, tc.ok)
				}
				if !tc.ok {
					continue
				}
				if string(kept) != want || used != len(tc.body) {
					t.Errorf("in pieces of %d: kept %q after %d bytes, want %q after %d", n, kept, used, want, len(tc.body))
				}
				if bare, _, _, _ := dechunk([]byte(tc.body), n, true); string(bare) != tc.bare {
					t.Errorf("in pieces of %d: bare %q, want %q", n, bare, tc.bare)
				}
			}
		})
	}
}

// TestDechunkerRoundTrip sends what net/http's writer makes, in any pieces.
func TestDechunkerRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire, data bytes.Buffer
		w := httputil.NewChunkedWriter(&wire)
		for _, part := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 300), 0, 8).Draw(t, "parts") {
			data.Write(part)
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("\r\n")
		n := rapid.IntRange(1, 400).Draw(t, "piece")
		kept, _, done, err := dechunk(wire.Bytes(), n, false)
		if !done || err != nil || !bytes.Equal(kept, wire.Bytes()) {
			t.Fatalf("kept %d of %d bytes, done %v, %v", len(kept), wire.Len(), done, err)
		}
		bare, _, _, _ := dechunk(wire.Bytes(), n, true)
		if !bytes.Equal(bare, data.Bytes()) {
			t.Fatalf("bare: %d bytes, want %d", len(bare), data.Len())
		}
	})
}

// FuzzDechunker holds that pieces do not matter, that what is kept is a chunked body that keeps to itself, and that
// net/http reads the same data out of it.
func FuzzDechunker(f *testing.F) {
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /"), 3)
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 1)
	f.Add([]byte("0005 ;x\r\nhello\r\nfF\r\n"), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(1, n)
		kept, used, done, err := dechunk(b, len(b)+1, false)
		kept2, used2, done2, err2 := dechunk(b, n, false)
		if done != done2 || (err == nil) != (err2 == nil) || err == nil && (!bytes.Equal(kept, kept2) || used != used2) {
			t.Fatalf("%q at once: %q %d %v %v; in pieces of %d: %q %d %v %v", b, kept, used, done, err, n, kept2, used2, done2, err2)
		}
		if !done {
			return
		}
		again, _, done, err := dechunk(kept, n, false)
		if !done || err != nil || !bytes.Equal(again, kept) {
			t.Fatalf("%q: kept %q is not kept again: %q, %v, %v", b, kept, again, done, err)
		}
		bare, _, _, _ := dechunk(b, n, true)
		std, err := io.ReadAll(httputil.NewChunkedReader(bufio.NewReader(bytes.NewReader(kept))))
		if err != nil || !bytes.Equal(std, bare) {
			t.Fatalf("%q: data %q, net/http reads %q, %v", b, bare, std, err)
		}
	})
}

func BenchmarkDechunker(b *testing.B) {
	body := []byte("1000\r\n" + strings.Repeat("x", 0x1000) + "\r\n0\r\n\r\n")
	var d dechunker
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		d.reset(false)
		if _, _, done, err := d.feed(body); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}
