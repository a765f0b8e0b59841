package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

func (c *cluster) controlSocket() string { return filepath.Join(c.o.State, "control.sock") }

// serve starts what tests talk to, and what kube-proxy reaches the API server through. end stops both.
func (c *cluster) serve() error {
	upstream, err := c.transport("proxy")
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(c.o.State, "log", "delay.log"))
	if err != nil {
		return err
	}
	c.stops = append(c.stops, func() { out.Close() })
	c.delay = newDelay(c.api(""), upstream, out)
	c.delay.set(c.o.DelaySlices)
	if err := c.listen("tcp", "127.0.0.1:"+delayPort, c.delay); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /stop", c.handle(c.stopComponent))
	mux.HandleFunc("POST /start", c.handle(c.startComponent))
	mux.HandleFunc("POST /delay", c.handle(c.setDelay))
	return c.listen("unix", c.controlSocket(), mux)
}

func (c *cluster) listen(network, addr string, h http.Handler) error {
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // Close ends it
	}()
	c.stops = append(c.stops, func() {
		server.Close()
		<-done
	})
	return nil
}

func (c *cluster) handle(do func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := do(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

func (c *cluster) stopComponent(r *http.Request) error {
	name := r.FormValue("component")
	c.mu.Lock()
	p, known := c.running[name]
	c.mu.Unlock()
	if !known {
		return fmt.Errorf("component %q does not run here", name)
	}
	p.kill()
	return nil
}

func (c *cluster) startComponent(r *http.Request) error {
	name := r.FormValue("component")
	all := components(c.o)
	i := slices.IndexFunc(all, func(comp component) bool { return comp.name == name })
	if i < 0 {
		return fmt.Errorf("component %q is unknown", name)
	}
	c.mu.Lock()
	p, known := c.running[name]
	c.mu.Unlock()
	if known {
		select {
		case <-p.done:
		default:
			return nil // runs
		}
	}
	return c.bringUp(context.WithoutCancel(r.Context()), all[i])
}

func (c *cluster) setDelay(r *http.Request) error {
	d, err := time.ParseDuration(r.FormValue("slices"))
	if err != nil || d < 0 {
		return errors.Join(fmt.Errorf("slices=%q: want a duration", r.FormValue("slices")), err)
	}
	c.delay.set(d)
	return nil
}
