package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/localpods/procfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListenerAgainstProc(t *testing.T) {
	for _, network := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen("tcp", network)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			port := uint16(ln.Addr().(*net.TCPAddr).Port)
			at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
			conn, err := net.Dial("tcp", at.String()) // an established connection must not be found instead
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got, err := Listener(at)
			if err != nil {
				t.Fatal(err)
			}
			all, err := procfs.Listeners()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				if l.Addr.Port() == port && l.Inode != got {
					t.Errorf("Listener(%v) = %d, /proc says %d", at, got, l.Inode)
				}
			}
			mine := false
			procfs.Sockets(os.Getpid(), func(inode uint64) bool { mine = mine || inode == got; return true })
			if !mine {
				t.Errorf("Listener(%v) = %d, which is no socket of this process", at, got)
			}
			ln.Close()
			if got, err := Listener(at); !errors.Is(err, ErrNoListener) {
				t.Errorf("Listener after Close = %d, %v, want ErrNoListener", got, err)
			}
		})
	}
	if !Supported() {
		t.Error("Supported() = false where Listener works")
	}
}

func TestListenerElsewhereIsNotFound(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ln.Addr().(*net.TCPAddr).Port))
	if got, err := Listener(at); !errors.Is(err, ErrNoListener) {
		t.Errorf("Listener(%v) = %d, %v, want ErrNoListener: only 127.0.0.2 listens", at, got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, msgLen))
	f.Add(request(netip.MustParseAddrPort("127.0.0.1:80")))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parse(b) })
}

func BenchmarkListener(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	none := netip.AddrPortFrom(at.Addr(), 1)
	b.Run("listening", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Listener(at); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("nobody", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Listener(none); err == nil {
				b.Fatal("port 1 listens")
			}
		}
	})
	b.Run("connect refused", func(b *testing.B) { // the rival: what a probe without netlink does
		b.ReportAllocs()
		for b.Loop() {
			if c, err := net.Dial("tcp", none.String()); err == nil {
				c.Close()
				b.Fatal("port 1 accepts")
			}
		}
	})
}
