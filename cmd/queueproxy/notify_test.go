package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNotify reads what the sidecar tells whoever started it, over both kinds of sockets.
func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), "@rouse-test-" + strings.ReplaceAll(t.TempDir(), "/", "-")} {
		ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		next := func(want string) {
			t.Helper()
			b := make([]byte, 100)
			if err := ln.SetReadDeadline(time.Now().Add(limit)); err != nil {
				t.Fatal(err)
			}
			if n, err := ln.Read(b); err != nil || string(b[:n]) != want {
				t.Errorf("read %q, %v, want %q", b[:n], err, want)
			}
		}
		r := start(t, environ("127.0.0.1:1", "NOTIFY_SOCKET="+name, "ROUSE_DRAIN_MINIMUM=1h", "REVISION_TIMEOUT_SECONDS=3600"))
		next("READY=1")
		r.signals <- syscall.SIGTERM
		next("STOPPING=1")
		r.get("ROUSE_ADMIN_PORT", "/drain?announced=true")
		r.ended(0) // with an hour of minimum left
		ln.Close()
	}
}

// TestNotifyNobody: a socket that is not there, or no name of one, is said and does not keep the sidecar from serving.
func TestNotifyNobody(t *testing.T) {
	for _, name := range []string{"/nonexistent/socket", "relative"} {
		r := start(t, environ("127.0.0.1:1", "NOTIFY_SOCKET="+name))
		r.stop()
		if log := r.stderr.String(); strings.Count(log, "NOTIFY_SOCKET") != 2 {
			t.Errorf("%s: the log says %s, want NOTIFY_SOCKET twice", name, log)
		}
	}
}
