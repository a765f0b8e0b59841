package interop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Set for the process that runs the tests, by the one that built the binaries.
const (
	insideVar  = "ROUSE_INTEROP_INSIDE"
	knativeVar = "ROUSE_INTEROP_KNATIVE"
	rouseVar   = "ROUSE_INTEROP_ROUSE"
)

func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		if err := raiseLoopback(); err != nil {
			fmt.Fprintln(os.Stderr, "the loopback interface of the tests' own network:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if err := build(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := inOwnNetwork()
	if err == nil {
		os.Exit(code)
	}
	fmt.Fprintf(os.Stderr, "no network of its own (%v): ports 8022, 9090 and 9091 of this machine are used\n", err)
	os.Exit(m.Run())
}

// build makes both queue-proxies, where there is a network to download modules from. Knative's is kept by the content of
// what it is built from, since linking it takes a while.
func build(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "rouse", "interop")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	key := sha256.New()
	fmt.Fprintln(key, runtime.Version(), runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		key.Write(b)
	}
	knative := filepath.Join(cache, "knative-queue-"+hex.EncodeToString(key.Sum(nil))[:16])
	if _, err := os.Stat(knative); errors.Is(err, os.ErrNotExist) {
		if err := goBuild(ctx, ".", knative, "knative.dev/serving/cmd/queue"); err != nil {
			return err
		}
	}
	ours := filepath.Join(cache, "rouse-queueproxy")
	if err := goBuild(ctx, "../..", ours, "./cmd/queueproxy"); err != nil {
		return err
	}
	return errors.Join(os.Setenv(knativeVar, knative), os.Setenv(rouseVar, ours))
}

// goBuild writes beside the target first: a binary that is there is whole.
func goBuild(ctx context.Context, dir, target, pkg string) error {
	part := fmt.Sprintf("%s.%d", target, os.Getpid())
	cmd := exec.CommandContext(ctx, "go", "build", "-o", part, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return os.Rename(part, target)
}

// inOwnNetwork runs this test binary again where nothing but a loopback interface is. An error says that the kernel does
// not allow that; what the tests said is in the code.
func inOwnNetwork() (code int, err error) {
	runtime.LockOSThread() // the child is to die with the thread that made it
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return max(cmd.ProcessState.ExitCode(), 1), nil //nolint:nilerr // the tests have said what is wrong
	}
	return 0, nil
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		return err
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
