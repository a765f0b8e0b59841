package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkStart builds the binary as images do, and measures how long it takes from exec to a connection on the
// serving port, and to the first answer there, and what memory it then has: in total, and without the pages of the
// binary, which pods of a node share.
// On a busy machine the minimum tells most.
//
//	go test -run '^$' -bench Start -benchtime 50x ./cmd/queueproxy
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "queueproxy")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	var resident, own int64
	var took, answered []time.Duration
	for b.Loop() {
		b.StopTimer()
		port := freePort(b)
		cmd := exec.CommandContext(b.Context(), binary)
		cmd.Env = environ("127.0.0.1:1", "QUEUE_SERVING_PORT="+strconv.Itoa(port), "ROUSE_BIND_ADDRESS=::") // as in a pod
		b.StartTimer()
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		conn := connect(b, port)
		took = append(took, time.Since(began))
		ask(b, conn)
		answered = append(answered, time.Since(began))
		b.StopTimer()
		resident += memory(b, cmd.Process.Pid, "VmRSS")
		own += memory(b, cmd.Process.Pid, "RssAnon")
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	slices.Sort(answered)
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/start")
	b.ReportMetric(took[0].Seconds()*1000, "ms/start-min")
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms/start-median")
	b.ReportMetric(answered[len(answered)/2].Seconds()*1000, "ms/answer-median")
	b.ReportMetric(float64(resident)/float64(b.N), "KB-rss")
	b.ReportMetric(float64(own)/float64(b.N), "KB-anon")
}

func freePort(b *testing.B) int {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// connect tries until the port takes a connection.
func connect(b *testing.B, port int) net.Conn {
	b.Helper()
	deadline := time.Now().Add(limit)
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
		<-time.After(100 * time.Microsecond)
	}
}

// ask sends kubelet's question and waits for the answer.
func ask(b *testing.B, c net.Conn) {
	b.Helper()
	defer c.Close()
	_, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1\r\nK-Network-Probe: queue\r\nConnection: close\r\n\r\n")
	if err != nil {
		b.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		b.Fatalf("the first answer is %q (%v)", answer, err)
	}
}

// memory reads a line of /proc/PID/status, in KB.
func memory(b *testing.B, pid int, name string) int64 {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s in /proc/%d/status", name, pid)
	return 0
}
