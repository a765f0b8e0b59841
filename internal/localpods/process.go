package localpods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rousehq/rouse/internal/localpods/lines"
	"github.com/rousehq/rouse/internal/localpods/procfs"
)

// What a Line's Container says.
const (
	containerUser  = "user"
	containerProxy = "queue-proxy"
)

const (
	// drainPipes is how long the last output may take after the process tree is gone. Only a process that escaped
	// the tree can hold a pipe open for longer.
	drainPipes = 2 * time.Second
	// sweepPause and sweepTries bound the wait for killed processes to vanish: one in an uninterruptible sleep cannot
	// be waited for.
	sweepPause = 2 * time.Millisecond
	sweepTries = 1000
)

// spawner starts processes from one thread that lives as long as the runner. The kernel sends a child's parent-death
// signal when the thread that made it ends, not the process (prctl(2), PR_SET_PDEATHSIG), so the thread must be known.
type spawner struct {
	work chan func()
	done chan struct{}
}

func newSpawner() *spawner {
	return &spawner{work: make(chan func()), done: make(chan struct{})}
}

// run serves do until stop. It never unlocks its thread: the thread ends with it, and should anything be left, so does
// that.
func (s *spawner) run() {
	runtime.LockOSThread()
	defer close(s.done)
	for f := range s.work {
		f()
	}
}

// stop ends run and waits for it. Nothing may call do any more.
func (s *spawner) stop() {
	close(s.work)
	<-s.done
}

// do runs f on the spawner's thread and waits for it.
func (s *spawner) do(f func()) {
	ran := make(chan struct{})
	s.work <- func() { defer close(ran); f() }
	<-ran
}

// command is what a process is started from.
type command struct {
	argv   []string
	env    []string
	dir    string
	marker string                         // the entry of env that marks its descendants
	line   func(stderr bool, text string) // gets every line; called from two goroutines
	max    int                            // longest line
}

// process is a running program in a session of its own, with all its descendants.
type process struct {
	cmd     *exec.Cmd
	pid     int
	marker  string
	birth   uint64 // clock ticks since boot
	started time.Time

	exited chan struct{} // closed when the program has ended
	gone   chan struct{} // closed when its descendants have ended too and its output is read
	status string        // readable after gone
}

// startProcess starts the program. Its session makes it the leader of a process group too, and keeps it away from
// the terminal: a Ctrl-C is for this process, which then stops its pods in order.
func startProcess(sp *spawner, c command) (*process, error) {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Dir = c.env, c.dir
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, outR.Close(), outW.Close())
	}
	cmd.Stdout, cmd.Stderr = outW, errW
	p := &process{cmd: cmd, marker: c.marker, exited: make(chan struct{}), gone: make(chan struct{})}
	sp.do(func() {
		p.started = time.Now()
		err = cmd.Start()
	})
	outW.Close()
	errW.Close()
	if err != nil {
		outR.Close()
		errR.Close()
		return nil, err
	}
	p.pid = cmd.Process.Pid
	if self, err := procfs.Read(p.pid); err == nil {
		p.birth = self.Start
	}
	go p.wait(c, pidfd, outR, errR)
	return p, nil
}

// wait owns the process until it is gone. The program is left a zombie while its tree is killed, so that its number
// cannot be given to a stranger meanwhile.
func (p *process) wait(c command, pidfd int, stdout, stderr io.ReadCloser) {
	var readers sync.WaitGroup
	readers.Go(func() { lines.Read(stdout, c.max, func(s string) { c.line(false, s) }) })
	readers.Go(func() { lines.Read(stderr, c.max, func(s string) { c.line(true, s) }) })
	read := make(chan struct{})
	go func() { readers.Wait(); close(read) }()

	awaitZombie(p.pid, pidfd)
	close(p.exited)
	p.killTree()
	err := p.cmd.Wait()
	p.status = describeExit(p.cmd.ProcessState, err)
	late := time.NewTimer(drainPipes)
	defer late.Stop()
	select {
	case <-read:
	case <-late.C:
	}
	stdout.Close()
	stderr.Close()
	<-read
	close(p.gone)
}

// awaitZombie blocks until the child has ended, and leaves it to be waited for. A pidfd wakes it through the runtime's
// poller, so that a hundred pods do not hold a hundred threads.
func awaitZombie(pid, pidfd int) {
	if pidfd >= 0 {
		_ = unix.SetNonblock(pidfd, true) // failing that, the read below blocks a thread, and is right all the same
		f := os.NewFile(uintptr(pidfd), "pidfd")
		defer f.Close()
		conn, err := f.SyscallConn()
		if err == nil && conn.Read(func(fd uintptr) bool { return ended(unix.P_PIDFD, int(fd)) }) == nil {
			return
		}
	}
	for !ended(unix.P_PID, pid) { // a kernel before 5.4: waits in the system call
		continue
	}
}

// ended says whether the child is a zombie. It only comes back with false when the wait is not to block.
func ended(kind, id int) bool {
	for {
		err := unix.Waitid(kind, id, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return !errors.Is(err, unix.EAGAIN)
		}
	}
}

func describeExit(st *os.ProcessState, err error) string {
	if st != nil {
		return st.String()
	}
	return fmt.Sprintf("lost: %v", err)
}

// alive says whether the program itself still runs.
func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// terminate asks the process group to end.
func (p *process) terminate() {
	if p.alive() {
		_ = unix.Kill(-p.pid, unix.SIGTERM) // it may have ended by itself
	}
}

// kill ends the program at once; wait then ends the rest of its tree.
func (p *process) kill() {
	if !p.alive() {
		return
	}
	// Descendants that made a session of their own are found through their parents, so look before the parents die.
	for _, m := range p.members() {
		_ = unix.Kill(m.PID, unix.SIGKILL)
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
}

// stop asks the process to end, and kills it when ctx is done. It returns when all of it is gone.
func (p *process) stop(ctx context.Context) {
	p.terminate()
	p.await(ctx)
}

// await returns when all of the process is gone. It is killed when ctx is done.
func (p *process) await(ctx context.Context) {
	select {
	case <-p.exited:
	case <-ctx.Done():
		p.kill()
	}
	<-p.gone
}

// killTree ends what is left of the tree, again and again until a look finds nobody: a member may fork while it dies.
func (p *process) killTree() {
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	pause := time.NewTicker(sweepPause)
	defer pause.Stop()
	for range sweepTries {
		left := 0
		for _, m := range p.members() {
			if m.PID == p.pid || m.Zombie {
				continue
			}
			left++
			_ = unix.Kill(m.PID, unix.SIGKILL)
		}
		if left == 0 {
			return
		}
		<-pause.C
	}
}

// members returns the live tree: descendants, the session, and whoever carries the marker. Only processes younger than
// the pod are looked into for that.
func (p *process) members() []procfs.Process {
	procs, err := procfs.Processes()
	if err != nil {
		return nil
	}
	tree := procfs.Tree(procs, p.pid)
	in := make(map[int]bool, len(tree))
	for _, m := range tree {
		in[m.PID] = true
	}
	self := os.Getpid()
	for _, q := range procs {
		if !in[q.PID] && !q.Zombie && q.Start >= p.birth && q.PID != self && procfs.HasEnv(q.PID, p.marker) {
			tree = append(tree, q)
		}
	}
	return tree
}
