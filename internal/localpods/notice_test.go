package localpods_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/localpods"
)

// patientQueueProxy says when it is told to stop, and serves on until it hears that its callers know. A second signal
// is a fault.
func patientQueueProxy() error {
	term := onTerm()
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("QUEUE_SERVING_PORT"))
	if err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("TEST_ADMIN_PORT"))
	if err != nil {
		return err
	}
	announced := make(chan os.Signal, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/drain", func(_ http.ResponseWriter, r *http.Request) {
		if r.FormValue("announced") == "true" {
			announced <- syscall.SIGTERM
		}
	})
	go func() { _ = http.Serve(admin, mux) }() // ends with the process
	front := http.NewServeMux()
	front.HandleFunc("/sidecar", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	front.Handle("/", proxyTo("127.0.0.1:"+os.Getenv("USER_PORT")))
	ended := make(chan error, 1)
	go func() { ended <- serveUntil(announced, ln, front) }()
	<-term
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("STATUS=draining\nSTOPPING=1\n")); err != nil {
		return err
	}
	select {
	case <-term:
		return errors.New("a second signal")
	case err := <-ended:
		return err
	}
}

// TestSidecarToldToStop sends SIGTERM to a queue-proxy alone: the pod leaves the rotation first, a held request ends
// well, and another pod takes its place, with nothing counted as a crash.
func TestSidecarToldToStop(t *testing.T) {
	h := start(t, "serve", withSidecar(localpods.SidecarProcess), func(s *setup) {
		s.deps.SidecarEnv = func(_ localpods.SidecarPod, p localpods.SidecarPorts) []string {
			return []string{roleEnv + "=patient-queue-proxy", "TEST_ADMIN_PORT=" + strconv.Itoa(int(p.Admin))}
		}
	})
	h.apply(1)
	e := h.ready(1)[0]
	app := loopback(t, h.story(e).Env["PORT"])
	text, err := get(e.Pod.Addr, "/sidecar")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan string, 1)
	go func() {
		body, err := get(e.Pod.Addr, "/hold")
		held <- fmt.Sprint(body, err)
	}()
	h.await("the request is held", func() bool { n, err := get(app, "/holding"); return err == nil && n == "1" })
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.await("the pod drains", func() bool { return h.book.Snapshot(h.rev).Count(endpoint.Draining) == 1 })
	if other := h.ready(1)[0]; other.Pod.UID == e.Pod.UID {
		t.Errorf("pod %s is ready, want another", other.Pod.UID)
	}
	if _, err := get(app, "/release"); err != nil {
		t.Fatal(err)
	}
	if got := <-held; got != "held<nil>" {
		t.Errorf("the held request ended with %q, want a whole answer", got)
	}
	if s := h.event(localpods.Stopped, 1); s.PodUID != e.Pod.UID {
		t.Errorf("pod %s stopped, want %s", s.PodUID, e.Pod.UID)
	}
	if u := h.event(localpods.Unready, 1); u.Reason == "" {
		t.Error("nobody was told why the pod left")
	}
	if health, _ := h.r.Health(h.rev); health.Crashes != 0 || len(h.all(localpods.Exited)) != 0 {
		t.Errorf("%d crashes, %v; want none", health.Crashes, h.all(localpods.Exited))
	}
}
