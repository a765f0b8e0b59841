package up

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/statstream"
)

// admin is the private listener: metrics, explanations, health, and the stats stream of sidecar processes.
type admin struct {
	ln     net.Listener
	server *http.Server
	stats  *statstream.Handler
	mux    *http.ServeMux
	// closeAssign ends the streams of activators.
	closeAssign func(context.Context) error
	token       string
}

func (s *stack) buildAdmin() error {
	ln, err := net.Listen("tcp", s.o.Admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	a := &admin{ln: ln, token: rand.Text()}
	stats, err := statstream.NewHandler(statstream.HandlerConfig{Sink: s.loop, Authorize: statstream.StaticToken(a.token), Log: s.log})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	a.stats = stats
	mux := http.NewServeMux()
	mux.Handle("/stats", stats)
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.Handle("/explain", s.loop.ExplainHandler())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	a.closeAssign = func(context.Context) error { return nil }
	a.mux, a.server = mux, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.admin = a
	return nil
}

func (a *admin) run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := errors.Join(a.closeAssign(closing), a.stats.Close(closing), a.server.Close())
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // the streams that are left were cut
	}
	return err
}

func (a *admin) authorize(ctx context.Context, token string) bool {
	return statstream.StaticToken(a.token)(ctx, token)
}

// sidecarEnv tells a queue-proxy process where it listens and pushes.
func (a *admin) sidecarEnv(pod localpods.SidecarPod, p localpods.SidecarPorts) []string {
	port := func(n uint16) string { return strconv.Itoa(int(n)) }
	env := []string{
		"ROUSE_BIND_ADDRESS=127.0.0.1",
		"ROUSE_ADMIN_PORT=" + port(p.Admin),
		"ROUSE_STATS_PORT=0",
		"ROUSE_METRICS_PORT=" + port(p.Metrics),
		"ROUSE_STATS_URL=ws://" + a.ln.Addr().String() + "/stats",
		"ROUSE_STATS_TOKEN=" + a.token,
	}
	if pod.Spec.Measured {
		env = append(env, "ROUSE_APP_PID="+strconv.Itoa(pod.PID))
	}
	return env
}
