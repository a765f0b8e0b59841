package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
)

// running is a component's process.
type running struct {
	name   string
	cmd    *exec.Cmd
	log    string
	done   chan struct{} // closed when it has ended
	wanted atomic.Bool   // its end is wanted
}

// launch starts a component with a log of its own.
func (c *cluster) launch(comp component) error {
	path := filepath.Join(c.o.State, "log", comp.name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.o.Bin, comp.name), comp.args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, c.o.State
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cluster: start %s: %w", comp.name, err)
	}
	r := &running{name: comp.name, cmd: cmd, log: path, done: make(chan struct{})}
	c.mu.Lock()
	c.running[comp.name] = r
	c.mu.Unlock()
	go func() { // ends with the process, which end kills
		_ = cmd.Wait() // its ProcessState says all
		close(r.done)
	}()
	return nil
}

// kill ends the process and waits.
func (r *running) kill() {
	r.wanted.Store(true)
	_ = r.cmd.Process.Kill() // ended already is fine
	<-r.done
}

// died says which components ended without being asked to.
func (c *cluster) died() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, r := range c.running {
		select {
		case <-r.done:
			if !r.wanted.Load() {
				errs = append(errs, fmt.Errorf("cluster: %s ended: %v\n%s", r.name, r.cmd.ProcessState, tail(r.log)))
			}
		default:
		}
	}
	return errors.Join(errs...)
}
