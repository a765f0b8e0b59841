package up

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/localpods/procfs"
	"github.com/rousehq/rouse/internal/sampleapp"
)

// roleLedger is the argument that makes this test binary the application of the fault suite.
const roleLedger = "ledger"

// ledgerMain answers every request with its id, and writes the id to the file LEDGER before anything else: what an
// application has seen is known even when it is killed. Half of the answers stream. It ends in order on SIGTERM.
func ledgerMain() error {
	file, err := os.OpenFile(os.Getenv("LEDGER"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	srv := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writeDown(file, w, r) })}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() {
		<-term
		ended <- srv.Shutdown(context.Background())
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

func writeDown(file *os.File, w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if _, err := file.WriteString(id + "\n"); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set(sampleapp.HeaderPID, strconv.Itoa(os.Getpid()))
	if strings.HasSuffix(id, "0") { // some stream: a fault may meet them inside the answer
		fmt.Fprint(w, id[:1])
		_ = http.NewResponseController(w).Flush() // a caller that left is no fault of ours
		work(r)
		fmt.Fprint(w, id[1:])
		return
	}
	work(r)
	fmt.Fprint(w, id)
}

// work takes its time, so that faults meet requests in flight.
func work(r *http.Request) {
	t := time.NewTimer(4 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// readLedger counts how often an application saw each request.
func readLedger(t *testing.T, path string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for id := range strings.FieldsSeq(string(b)) {
		seen[id]++
	}
	return seen
}

// processOf finds the process that carries an entry in its environment and that this process started, 0 for none.
func processOf(entry string) int {
	all, err := procfs.Processes()
	if err != nil {
		return 0
	}
	for _, p := range all {
		if !p.Zombie && p.PPID == os.Getpid() && procfs.HasEnv(p.PID, entry) {
			return p.PID
		}
	}
	return 0
}
