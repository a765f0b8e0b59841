package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	kexec "k8s.io/utils/exec"
)

// command runs args in a running container's namespaces, as its user and with its environment.
func (r *Runtime) command(ctx context.Context, id string, args []string) (*exec.Cmd, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	uid, gid, err := c.user()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	pid, running := c.pid, c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	if !running {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s is not running", c.name())
	}
	// util-linux's nsenter: a Go program has threads by the time it could join a mount namespace, and the kernel refuses that.
	enter := []string{"--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid",
		"--setuid", strconv.Itoa(int(uid)), "--setgid", strconv.Itoa(int(gid)), "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = c.env()
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	return cmd, nil
}

// ExecSync runs a probe or a hook. A timeout is what kubelet knows as such.
func (r *Runtime) ExecSync(ctx context.Context, id string, args []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	cmd, err := r.command(ctx, id, args)
	if err != nil {
		return nil, nil, err
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = status.Errorf(codes.DeadlineExceeded, "%q took longer than %v", args, timeout)
	}
	return out.Bytes(), errOut.Bytes(), exitError(err)
}

// exitError gives kubelet the exit code in the form that it looks for.
func exitError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return kexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// streamAddress is where `kubectl exec` and `kubectl port-forward` are led to, by kubelet: only it comes here.
const streamAddress = "127.0.0.1:10350"

func (r *Runtime) serveStreams() (err error) {
	cfg := streaming.DefaultConfig
	cfg.Addr = streamAddress
	if r.streams, err = streaming.NewServer(cfg, streams{r}); err != nil {
		return fmt.Errorf("runtime: streams: %w", err)
	}
	r.done.Go(func() {
		if err := r.streams.Start(true); err != nil && !errors.Is(err, http.ErrServerClosed) {
			r.cfg.Log.Warn("exec and port-forward end here", "error", err)
		}
	})
	return nil
}

// Exec returns the URL of a stream.
func (r *Runtime) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return r.streams.GetExec(req)
}

// Attach is not supported: containers have no standard input.
func (r *Runtime) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return nil, status.Error(codes.Unimplemented, "attach is not supported; use exec")
}

// PortForward returns the URL of a stream.
func (r *Runtime) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return r.streams.GetPortForward(req)
}

// streams is what the streaming server calls.
type streams struct{ r *Runtime }

func (s streams) Exec(ctx context.Context, id string, args []string, in io.Reader, out, errOut io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize) error {
	if tty {
		return errors.New("terminals are not supported: leave -t out")
	}
	cmd, err := s.r.command(ctx, id, args)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, errOut
	if in != nil {
		pipe, err := cmd.StdinPipe() // not cmd.Stdin: Wait would wait for the client to close its end
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(pipe, in) // ends with the stream, which the server closes
			pipe.Close()
		}()
	}
	return exitError(cmd.Run())
}

func (s streams) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("attach is not supported; use exec")
}

func (s streams) PortForward(ctx context.Context, podID string, port int32, stream io.ReadWriteCloser) error {
	s.r.mu.Lock()
	p, known := s.r.pods[podID]
	s.r.mu.Unlock()
	if !known {
		return status.Errorf(codes.NotFound, "pod sandbox %s is not known", podID)
	}
	host := "127.0.0.1"
	if !p.onNode() {
		host = p.net.addr.String()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("port-forward: %w", err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream) // ends with the stream, which the server closes
		conn.Close()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
