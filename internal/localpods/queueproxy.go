package localpods

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/localpods/ports"
)

// queueProxy is a queue-proxy process. SIGTERM makes it drain, whoever sends it. It then serves what comes until its
// callers have heard of it, for which it has its own idea of time, or until it is told that they have.
type queueProxy struct {
	proc   *process
	ports  SidecarPorts
	pool   *ports.Pool
	notice *notice
	free   sync.Once
}

func (p *pod) startQueueProxy(info SidecarPod) (sidecar, error) {
	pool := p.g.r.ports
	var got [3]uint16
	for i := range got {
		port, err := pool.Take()
		if err != nil {
			pool.Release(got[:i]...)
			return nil, fmt.Errorf("start queue-proxy: %w", err)
		}
		got[i] = port
	}
	ports := SidecarPorts{Serving: got[0], Admin: got[1], Metrics: got[2]}
	marker := markerName + "=" + p.uid + "/" + containerProxy // not the application's: each ends its own tree only
	env := newEnviron(p.g.r.cfg.BaseEnv).entries()
	env = append(env, marker)
	env = append(env, knativeEnv(info, ports)...)
	heard, err := listenForNotice()
	if err != nil {
		pool.Release(got[:]...)
		return nil, fmt.Errorf("start queue-proxy: %w", err)
	}
	env = append(env, "NOTIFY_SOCKET="+heard.name)
	if extra := p.g.r.deps.SidecarEnv; extra != nil {
		env = append(env, extra(info, ports)...)
	}
	proc, err := startProcess(p.g.r.spawner, command{
		argv: p.g.r.cfg.SidecarArgv, env: env, marker: marker, max: p.g.r.cfg.MaxLine,
		line: func(stderr bool, text string) { p.line(containerProxy, stderr, text) },
	})
	if err != nil {
		heard.close()
		pool.Release(got[:]...)
		return nil, fmt.Errorf("start queue-proxy: %w", err)
	}
	return &queueProxy{proc: proc, ports: ports, pool: pool, notice: heard}, nil
}

func (s *queueProxy) addr() netip.AddrPort    { return loopback(s.ports.Serving) }
func (s *queueProxy) exited() <-chan struct{} { return s.proc.exited }

func (s *queueProxy) draining() <-chan struct{} { return s.notice.stopping }

func (s *queueProxy) listening(pr *prober) bool {
	return pr.listener(s.proc, s.ports.Serving) == listenerOwn
}

// drain is called when nobody sends anything new: it spares the wait for callers that hear late. Another queue-proxy than
// ours may take a second SIGTERM for an order to end at once, so one that was told to stop by somebody else gets none.
func (s *queueProxy) drain(ctx context.Context) error {
	select {
	case <-s.notice.stopping:
	default:
		s.proc.terminate()
	}
	s.announce(ctx)
	s.proc.await(ctx)
	s.free.Do(func() {
		s.notice.close()
		s.pool.Release(s.ports.Serving, s.ports.Admin, s.ports.Metrics)
	})
	if ctx.Err() != nil {
		return errors.New("queue-proxy did not finish its requests in time and was killed")
	}
	return nil
}

// announce asks the queue-proxy to wait for what is in flight alone. One that has just started may not be able to answer
// yet; one that does not understand ends when its own time is over.
func (s *queueProxy) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, announceLimit)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	again := time.NewTicker(announceAgain)
	defer again.Stop()
	for s.proc.alive() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(s.ports.Admin).String()+"/drain?announced=true", nil)
		if err != nil {
			return
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-again.C:
		case <-s.proc.exited:
		case <-ctx.Done():
			return
		}
	}
}

const (
	announceLimit = time.Second // for a queue-proxy that may hang
	announceAgain = 10 * time.Millisecond
)
