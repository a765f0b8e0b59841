package early

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// asked makes this test binary a queue-proxy that serves one connection, with the socket that was opened before main.
const asked = "ROUSE_TEST_EARLY"

func TestMain(m *testing.M) {
	if os.Getenv(asked) == "" {
		os.Exit(m.Run())
	}
	os.Exit(child())
}

// child waits for a word on its standard input, so that the test can connect first, and then says hello to whoever waits.
func child() int {
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return 3
	}
	socket, ok := Take(opened.port)
	if !ok {
		return 4
	}
	if _, again := Take(opened.port); again {
		return 5
	}
	ln, err := net.FileListener(os.NewFile(uintptr(socket), "serving port"))
	if err != nil {
		return 6
	}
	conn, err := ln.Accept()
	if err != nil {
		return 7
	}
	if _, err := conn.Write([]byte("hello")); err != nil || conn.Close() != nil {
		return 8
	}
	return 0
}

// freePort returns a port that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

func start(t *testing.T, env ...string) (cmd *exec.Cmd, proceed io.WriteCloser) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, asked+"=1")...)
	proceed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, proceed
}

// connect tries until the port takes a connection.
func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestConnectionsWait connects, by IPv4 and IPv6, before the program takes its socket: connections wait for it.
func TestConnectionsWait(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		port := freePort(t)
		cmd, proceed := start(t, "QUEUE_SERVING_PORT="+port)
		conn := connect(t, net.JoinHostPort(host, port))
		if _, err := proceed.Write([]byte("!")); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, []byte("hello")) {
			t.Errorf("%s: read %q (%v), want hello", host, got, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: the program ended with %v", host, err)
		}
	}
}

// TestNothingToTake: what is not for this package is left to main, which knows how to say what is wrong.
func TestNothingToTake(t *testing.T) {
	taken, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, env := range map[string][]string{
		"no port":             {},
		"any port":            {"QUEUE_SERVING_PORT=0"},
		"not a number":        {"QUEUE_SERVING_PORT=80x"},
		"too large":           {"QUEUE_SERVING_PORT=65536"},
		"a port that is used": {"QUEUE_SERVING_PORT=" + strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)},
		"one address alone":   {"QUEUE_SERVING_PORT=" + freePort(t), "ROUSE_BIND_ADDRESS=127.0.0.1"},
	} {
		cmd, proceed := start(t, env...)
		if _, err := proceed.Write([]byte("!")); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 4 {
			t.Errorf("%s: the program ended with %v, want the exit code 4 for nothing to take", name, err)
		}
	}
}
