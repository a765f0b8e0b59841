//go:build linux

package load

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestReplySurvivesAnyCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 300).Draw(t, "size")
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH:  %d \r\n\r\n%s", size, strings.Repeat("b", size))
		stream := strings.Repeat(whole, 3)
		var r reply
		for len(stream) > 0 {
			left := len(whole) - (3*len(whole)-len(stream))%len(whole) // a response is never joined with the next
			n := rapid.IntRange(1, left).Draw(t, "cut")
			done, err := r.feed([]byte(stream[:n]))
			if err != nil || done != (n == left) {
				t.Fatalf("feed(%q) = %t, %v, want %t", stream[:n], done, err, n == left)
			}
			stream = stream[n:]
		}
	})
}

func TestReplyRefuses(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
		"nonsense of some length\r\n\r\n",
		strings.Repeat("a", maxHead+1),
	} {
		var r reply
		if done, err := r.feed([]byte(in)); err == nil {
			t.Errorf("feed(%.60q) = %t, nil, want an error", in, done)
		}
	}
}

func TestScheduleNeverSkipsOrHurries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := schedule{interval: time.Duration(rapid.IntRange(1, 1000).Draw(t, "interval"))}
		now, want := time.Duration(0), time.Duration(0)
		for range 50 {
			now += time.Duration(rapid.IntRange(0, 5000).Draw(t, "pass"))
			s.advance(now)
			for s.due() > 0 && rapid.Bool().Draw(t, "free") {
				if got := s.next(); got != want || got > now {
					t.Fatalf("next = %d at %d, want %d", got, now, want)
				}
				want += s.interval
			}
			if s.coming() <= now {
				t.Fatalf("coming = %d, want later than %d", s.coming(), now)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), 5)
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		var whole, parts reply
		done, err := whole.feed(p)
		if cut < 0 || cut >= len(p) || err != nil {
			return
		}
		early, err := parts.feed(p[:cut])
		if err != nil || early {
			return // a response that ends before the cut makes the rest a fault
		}
		if got, err := parts.feed(p[cut:]); err != nil || got != done {
			t.Errorf("feed(%q, then %q) = %t, %v, want %t", p[:cut], p[cut:], got, err, done)
		}
	})
}

func BenchmarkReply(b *testing.B) {
	p := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nset-cookie: a=1\r\nContent-Length: 3\r\n\r\nabc")
	b.ReportAllocs()
	var r reply
	for b.Loop() {
		if done, err := r.feed(p); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}
