package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/identity"
)

// ActivatorCommand is the hidden subcommand that runs one activator process.
const ActivatorCommand = "activator"

const (
	activatorStart    = 30 * time.Second       // for an activator to become ready
	activatorRestart  = 100 * time.Millisecond // pause before one that ended is started again, doubling
	activatorMaxPause = 5 * time.Second
)

// activators are processes of this same program that take the requests: the first at the public address, the others at
// ports of their own. One that ends is started again, at the same address.
type activators struct {
	s      *stack
	server *assign.Server
	news   chan struct{} // capacity 1: some activator's state has changed

	mu       sync.Mutex // guards all below
	stopping bool
	settled  bool // all were ready once
	procs    []*activatorProcess
}

// activatorProcess is one place among them, with the process that fills it.
type activatorProcess struct {
	name   string
	listen string // where it listens; after the first start with its port
	admin  string // where its metrics are, the same for all that fill the place once one was ready
	cmd    *exec.Cmd
	stdin  io.Closer
}

func newActivators(s *stack, server *assign.Server) *activators {
	a := &activators{s: s, server: server, news: make(chan struct{}, 1)}
	host, _, _ := net.SplitHostPort(s.o.Listen) // validated before
	for i := range s.o.Activators {
		p := &activatorProcess{name: fmt.Sprintf("activator-%d", i+1), listen: s.o.Listen}
		if i > 0 {
			p.listen = net.JoinHostPort(host, "0")
		}
		a.procs = append(a.procs, p)
	}
	return a
}

// inHand tells the loop what the processes have, whatever becomes of their reports.
type inHand struct{ s *stack }

// Unheard implements control.ActivatorSource.
func (h inHand) Unheard(rev identity.Revision, heard func(string) bool) (requests int, connected bool) {
	return h.s.activators.server.Unheard(rev, heard)
}

// own declares that everything that runs at the start was told.
func (a *activators) own() {
	if a != nil {
		a.server.Own(0, uint64(time.Now().UnixMilli()))
	}
}

func (a *activators) changed() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// run keeps the processes up until ctx ends; they are told to stop by stop.
func (a *activators) run(ctx context.Context) error {
	if a == nil {
		<-ctx.Done()
		return nil
	}
	var owned sync.WaitGroup
	defer owned.Wait()
	owned.Go(func() { _ = a.server.Run(ctx) }) // ends with ctx alone
	for _, p := range a.procs {
		owned.Go(func() { a.keep(ctx, p) })
	}
	<-ctx.Done()
	a.kill()
	return nil
}

// keep starts a process again whenever it ends, unless all are to stop.
func (a *activators) keep(ctx context.Context, p *activatorProcess) {
	pause := activatorRestart
	for ctx.Err() == nil {
		began := time.Now()
		err := a.once(p)
		if a.isStopping() {
			return
		}
		fmt.Fprintf(a.s.o.Stderr, "%s ended (%v); it is started again\n", p.name, err)
		if time.Since(began) > activatorMaxPause {
			pause = activatorRestart
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, activatorMaxPause)
	}
}

// once runs a process from its start to its end.
func (a *activators) once(p *activatorProcess) error {
	if err := a.place(p); err != nil {
		return err
	}
	cmd := exec.Command(a.s.o.Self, append([]string{ActivatorCommand}, a.flags(p)...)...)
	cmd.Env = append(append([]string{}, a.s.o.Environ...), "ROUSE_TOKEN="+a.s.admin.token)
	cmd.Stdout, cmd.Stderr = a.s.o.Stderr, a.s.o.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for this process, which stops them in order
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	a.mu.Lock()
	if a.stopping {
		a.mu.Unlock()
		return stdin.Close()
	}
	if err := cmd.Start(); err != nil {
		a.mu.Unlock()
		return errors.Join(err, stdin.Close())
	}
	p.cmd, p.stdin = cmd, stdin
	a.mu.Unlock()
	err = cmd.Wait()
	a.mu.Lock()
	p.cmd = nil
	a.mu.Unlock()
	return err
}

// place finds a free port for the metrics of a process that nobody knows yet. Should somebody take it first, the process
// ends, and the next one gets another.
func (a *activators) place(p *activatorProcess) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled {
		return nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.admin = ln.Addr().String()
	return ln.Close()
}

func (a *activators) flags(p *activatorProcess) []string {
	o, admin := a.s.o, a.s.admin.ln.Addr().String()
	a.mu.Lock()
	defer a.mu.Unlock()
	flags := []string{
		"--name=" + p.name, "--listen=" + p.listen, "--admin-listen=" + p.admin, "--port-host=127.0.0.1",
		"--control-urls=ws://" + admin + "/assign", "--stats-urls=ws://" + admin + "/stats",
		"--queue-total=" + strconv.Itoa(o.QueueTotal), "--growth=" + strconv.FormatFloat(growth, 'g', -1, 64),
		"--cold-start-header=" + strconv.FormatBool(o.ColdStartHeader), "--server-timing=" + strconv.FormatBool(o.ServerTiming),
		"--drain-minimum=" + o.ActivatorDrain.String(), "--drain-quiet=" + min(o.ActivatorDrain, 2*time.Second).String(),
		"--grace=" + max(o.Grace, o.ActivatorDrain).String(), "--log-level=warn", "--log-format=text", "--with-stdin",
	}
	if o.Trusted != "" && p == a.procs[0] {
		flags = append(flags, "--trusted-listen="+o.Trusted)
	}
	return flags
}

// ready waits until every activator has taken over what it should serve, and returns the address of the first.
func (a *activators) ready(ctx context.Context) (net.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, activatorStart)
	defer cancel()
	for {
		found := map[string]assign.ActivatorState{}
		for _, st := range a.server.Activators() {
			if st.Ready {
				found[st.Name] = st
			}
		}
		if len(found) == len(a.procs) {
			return a.settle(found)
		}
		select {
		case <-a.news:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d activators became ready within %s", len(found), len(a.procs), activatorStart)
		}
	}
}

// settle keeps the ports that the activators have found, for those that take their places.
func (a *activators) settle(found map[string]assign.ActivatorState) (first net.Addr, _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, p := range a.procs {
		p.listen = found[p.name].Addr
		addr, err := net.ResolveTCPAddr("tcp", p.listen)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = addr
		}
		fmt.Fprintf(a.s.o.Stdout, "%s: http://%s/, metrics: http://%s/metrics\n", p.name, reachable(addr), p.admin)
	}
	a.settled = true
	return first, nil
}

func (a *activators) isStopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopping
}

// stop has every process drain and waits until all have ended; those that are left when ctx ends are killed.
func (a *activators) stop(ctx context.Context) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	a.stopping = true
	for _, p := range a.procs {
		if p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is what is wanted
		}
	}
	a.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.running() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.kill()
			return ctx.Err()
		}
	}
	return nil
}

func (a *activators) running() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.procs {
		if p.cmd != nil {
			n++
		}
	}
	return n
}

// kill ends every process at once.
func (a *activators) kill() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	for _, p := range a.procs {
		if p.cmd != nil {
			_ = p.cmd.Process.Kill() // one that has ended is what is wanted
		}
	}
}

// pid returns the process in a place, 0 when there is none at the moment.
func (a *activators) pid(i int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cmd := a.procs[i].cmd; cmd != nil {
		return cmd.Process.Pid
	}
	return 0
}
