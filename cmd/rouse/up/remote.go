package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/manifest"
)

// SocketName and historyName are names below the data folder.
const (
	SocketName  = "rouse.sock"
	historyName = "history"
)

// maxApply bounds the manifests of one apply, in bytes.
const maxApply = 8 << 20

// keptApplies is how many applied manifests the history keeps.
const keptApplies = 100

// remote is the private socket by which other commands reach a running rouse, and the history that it keeps. Only the
// user who started it can open the folder.
type remote struct {
	s      *stack
	dir    string // empty: no socket and no history
	ln     net.Listener
	server *http.Server
	stop   context.CancelFunc
}

// open makes the data folder and its socket.
func (s *stack) open(_ intake, stop context.CancelFunc) error {
	r := &remote{s: s, dir: s.o.Data, stop: stop}
	s.remote = r
	if r.dir == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(r.dir, historyName), 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	path := filepath.Join(r.dir, SocketName)
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("--data %s: another rouse is running there: stop it with `rouse stop`, or name another folder", r.dir), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apply", r.apply)
	mux.HandleFunc("GET /status", r.status)
	mux.HandleFunc("GET /logs", r.logs)
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "stopping: requests in flight finish first")
		r.stop()
	})
	r.ln, r.server = ln, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return nil
}

func (r *remote) run(ctx context.Context) error {
	if r.server == nil {
		<-ctx.Done()
		return nil
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(r.ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := r.server.Shutdown(closing)
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// apply takes manifests and makes them so.
func (r *remote) apply(w http.ResponseWriter, req *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxApply))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	name := req.URL.Query().Get("name")
	in, warnings, err := r.s.fleet.planner.read([]manifest.Source{{Name: name, Data: data}})
	answer := Applied{}
	for _, x := range warnings {
		answer.Warnings = append(answer.Warnings, x.String())
	}
	if err == nil {
		answer.Changes, err = r.s.fleet.apply(in, false)
		err = errors.Join(err, r.record(in, answer.Changes))
	}
	if err != nil {
		answer.Error = err.Error()
	}
	writeJSON(w, answer)
}

// Applied is the answer to an apply.
type Applied struct {
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// Status is one revision as `rouse status` shows it.
type Status struct {
	Service  string `json:"service"`
	Revision string `json:"revision"`
	Percent  int    `json:"percent"`
	Tags     string `json:"tags,omitempty"`
	Ready    int    `json:"ready"`
	Starting int    `json:"starting"`
	Draining int    `json:"draining"`
	InFlight int    `json:"in_flight"`
	Parked   int    `json:"parked"`
	Problem  string `json:"problem,omitempty"`
}

func (r *remote) status(w http.ResponseWriter, _ *http.Request) { writeJSON(w, r.s.fleet.status()) }

// logs writes the last lines of a service's processes.
func (r *remote) logs(w http.ResponseWriter, req *http.Request) {
	id, err := r.s.fleet.current(req.URL.Query().Get("service"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	n, err := strconv.Atoi(req.URL.Query().Get("lines"))
	if err != nil || n < 1 {
		http.Error(w, "lines must be a number of at least 1", http.StatusBadRequest)
		return
	}
	lines, err := r.s.runner.Logs(id, n)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	for _, l := range lines {
		fmt.Fprintf(w, "%s %s %s\n", l.Time.Format("15:04:05.000"), l.PodUID, l.Text)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that left does not want to know
}

// record keeps manifests that changed something, so that their revisions are there again after a restart.
func (r *remote) record(in intake, changes []Change) error {
	if r.dir == "" || !slices.ContainsFunc(changes, func(c Change) bool { return c.What != "unchanged" }) {
		return nil
	}
	names, err := r.applied()
	if err != nil {
		return err
	}
	next := 1
	if len(names) > 0 {
		if _, err := fmt.Sscanf(filepath.Base(names[len(names)-1]), "%d", &next); err != nil {
			return fmt.Errorf("--data: %s is no file of the history: %w", names[len(names)-1], err)
		}
		next++
	}
	var text strings.Builder
	for _, src := range in.sources {
		fmt.Fprintf(&text, "---\n%s\n", strings.TrimSuffix(string(src.Data), "\n"))
	}
	for len(names) >= keptApplies {
		if err := os.Remove(names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	return writeDurably(filepath.Join(r.dir, historyName, fmt.Sprintf("%08d.yaml", next)), text.String())
}

// writeDurably writes a file whole or not at all.
func writeDurably(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// applied lists the files of the history, oldest first.
func (r *remote) applied() ([]string, error) {
	return filepath.Glob(filepath.Join(r.dir, historyName, "[0-9]*.yaml"))
}

// history reads what was applied before, reduced to the services that the present manifests name.
func (r *remote) history(present intake) []intake {
	if r.dir == "" {
		return nil
	}
	names, err := r.applied()
	if err != nil {
		fmt.Fprintf(r.s.o.Stderr, "history: %v\n", err)
	}
	var all []intake
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintf(r.s.o.Stderr, "history: %v\n", err)
			continue
		}
		in, _, err := r.s.fleet.planner.read([]manifest.Source{{Name: name, Data: data}})
		if err != nil {
			fmt.Fprintf(r.s.o.Stderr, "history: %v\n", err)
			continue
		}
		in.services = slices.DeleteFunc(in.services, func(s manifest.Service) bool {
			return !slices.ContainsFunc(present.services, func(p manifest.Service) bool { return p.Name == s.Name && p.Namespace == s.Namespace })
		})
		all = append(all, in)
	}
	return all
}
