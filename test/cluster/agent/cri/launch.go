package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rousehq/rouse/test/cluster/agent/process"
)

// launch starts the shim and returns when it has become the program, or failed to.
func (r *Runtime) launch(c *container, spec *process.Spec) error {
	stdout, stderr, err := c.log.open()
	if err != nil {
		return err
	}
	cmd := exec.Command(r.cfg.Shim)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = []string{} // the shim sets what the container gets
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	verdict, err := startShim(cmd, spec)
	if err != nil {
		return errors.Join(fmt.Errorf("container %s: %w", c.name(), err), c.log.close())
	}
	if verdict != "" {
		err := errors.New(verdict)
		_ = cmd.Wait() // its exit code says no more than the verdict
		r.mu.Lock()
		defer r.mu.Unlock()
		c.end(128, "StartError", verdict)
		return errors.Join(err, c.log.close())
	}
	// For whoever wants to signal it past kubelet: tests kill processes.
	if err := os.WriteFile(c.root(r)+".pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		r.cfg.Log.Warn("pid file", "container", c.name(), "error", err)
	}
	r.mu.Lock()
	c.state, c.started, c.pid = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now(), cmd.Process.Pid
	r.mu.Unlock()
	r.cfg.Log.Info("started", "container", c.name(), "id", c.id, "pid", cmd.Process.Pid, "address", c.pod.net.addr)
	r.done.Go(func() { r.await(c, cmd) })
	return nil
}

// startShim hands the specification over and returns the shim's report, empty when the program runs.
func startShim(cmd *exec.Cmd, spec *process.Spec) (string, error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return "", err
	}
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return "", errors.Join(err, specR.Close(), specW.Close())
	}
	defer reportR.Close()
	cmd.ExtraFiles = []*os.File{specR, reportW} // descriptors process.SpecFD and process.ErrorFD
	err = cmd.Start()
	specR.Close()
	reportW.Close()
	if err != nil {
		return "", errors.Join(err, specW.Close())
	}
	// A shim that died leaves a broken pipe; its report says more.
	_ = json.NewEncoder(specW).Encode(spec)
	specW.Close()
	verdict, err := io.ReadAll(reportR)
	return string(verdict), err
}

// await records how the container ended. The first process' end takes all others with it, so that the pipes of the log end, too.
func (r *Runtime) await(c *container, cmd *exec.Cmd) {
	_ = cmd.Wait() // ProcessState says all
	code, reason := verdict(cmd.ProcessState.Sys().(syscall.WaitStatus))
	if r.limits.killed(c.id) {
		reason = "OOMKilled"
	}
	if err := c.log.close(); err != nil {
		r.cfg.Log.Warn("log", "container", c.name(), "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.end(code, reason, "")
	r.cfg.Log.Info("exited", "container", c.name(), "id", c.id, "code", code, "reason", reason)
}

// verdict translates a wait status as shells and containerd do.
func verdict(ws syscall.WaitStatus) (code int32, reason string) {
	if ws.Signaled() {
		return 128 + int32(ws.Signal()), "Error"
	}
	if ws.ExitStatus() == 0 {
		return 0, "Completed"
	}
	return int32(ws.ExitStatus()), "Error"
}

// end needs Runtime.mu.
func (c *container) end(code int32, reason, message string) {
	c.state, c.finished, c.code, c.reason, c.message = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now(), code, reason, message
	close(c.exited)
}
