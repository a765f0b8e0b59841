package localpods_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
)

// roleEnv makes the test binary play a user program instead of running tests.
const roleEnv = "LOCALPODS_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// story is what a program of the role "serve" tells about itself.
type story struct {
	PID    int
	Args   []string
	Env    map[string]string
	Listen int64 // Unix ns
}

func play(role string) int {
	var err error
	switch role {
	case "serve":
		err = serve(os.Getenv("PORT"))
	case "wrong-port":
		err = serve("0")
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		err = http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
	case "crash":
		fmt.Fprintln(os.Stdout, "not the reason")
		for i := range 30 {
			fmt.Fprintf(os.Stderr, "line %d\n", i)
		}
		return 3
	case "parent": // its child listens
		err = respawn("serve", &syscall.SysProcAttr{}).Run()
	case "daemon": // leaves a process behind that left its session, and serves
		if err = respawn("hang", &syscall.SysProcAttr{Setsid: true}).Start(); err == nil {
			err = serve(os.Getenv("PORT"))
		}
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "mute": // runs, listens nowhere
		<-onTerm()
	case "runner": // a process that runs pods, for others to kill
		err = hostRunner()
	case "queue-proxy":
		err = queueProxy()
	case "patient-queue-proxy":
		err = patientQueueProxy()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func respawn(role string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.SysProcAttr = attr
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// onTerm returns a channel that receives SIGTERM. It is taken before a program listens: from then on it may be stopped.
func onTerm() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	return c
}

// serve answers on the port until SIGTERM: / tells its story, /hold answers once a /release came and
// /holding tells how many wait for it, /exit crashes, and
// /health answers what /health?set=N last set.
func serve(port string) error {
	if ms, err := time.ParseDuration(os.Getenv("DELAY_MS") + "ms"); err == nil {
		<-time.After(ms)
	}
	term := onTerm()
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	me := story{PID: os.Getpid(), Args: os.Args[1:], Env: map[string]string{}, Listen: time.Now().UnixNano()}
	for _, name := range []string{"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION", "HTTP_PORT", "GREETING"} {
		me.Env[name] = os.Getenv(name)
	}
	var health atomic.Int64
	health.Store(200)
	if s := os.Getenv("HEALTH"); s != "" {
		_, _ = fmt.Sscan(s, &me.PID) // any integer
		health.Store(int64(me.PID))
		me.PID = os.Getpid()
	}
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(me) })
	var holding atomic.Int64
	mux.HandleFunc("/hold", func(w http.ResponseWriter, _ *http.Request) {
		holding.Add(1)
		<-release
		fmt.Fprint(w, "held")
	})
	mux.HandleFunc("/holding", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, holding.Load()) })
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { close(release) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Fprintln(os.Stderr, "asked to exit"); os.Exit(7) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if s := r.URL.Query().Get("set"); s != "" {
			var n int64
			_, _ = fmt.Sscan(s, &n)
			health.Store(n)
			return
		}
		w.WriteHeader(int(health.Load()))
	})
	fmt.Println("listening")
	return serveUntil(term, ln, mux)
}

func serveUntil(term <-chan os.Signal, ln net.Listener, h http.Handler) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(os.Getenv("ONLY_H2C") == "")
	srv := &http.Server{Handler: h, Protocols: &protocols}
	done := make(chan error, 1)
	go func() {
		<-term
		done <- srv.Shutdown(context.Background())
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// queueProxy stands in for the sidecar binary: it takes its ports from the environment that Knative defines.
func queueProxy() error {
	term := onTerm()
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("QUEUE_SERVING_PORT"))
	if err != nil {
		return err
	}
	return serveUntil(term, ln, proxyTo("127.0.0.1:"+os.Getenv("USER_PORT")))
}

func proxyTo(addr string) *httputil.ReverseProxy {
	return httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
}

// hostRunner runs one pod and prints its process number when it is ready. It ends only by being killed.
func hostRunner() error {
	cfg := localpods.Default()
	cfg.BaseEnv = os.Environ()
	rev := identity.Revision{Namespace: "default", Name: "hosted"}
	r, err := localpods.New(cfg, localpods.Deps{Book: new(endpoint.Book), Observer: func(e localpods.Event) {
		if e.Kind == localpods.Ready {
			fmt.Println(e.PID)
		}
	}})
	if err != nil {
		return err
	}
	if err := r.Add(localpods.Spec{Revision: rev, Argv: []string{os.Args[0]}, Env: []string{roleEnv + "=serve"}}); err != nil {
		return err
	}
	go func() {
		<-r.Started()
		if err := r.Apply(context.Background(), rev, 1, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	return r.Run(context.Background())
}
