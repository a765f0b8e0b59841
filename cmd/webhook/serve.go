package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/admission"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/telemetry"
)

// serve runs until a signal comes. It is ready while it has a certificate and is not told to end; after that it answers
// for a while longer, since the API server learns late.
func serve(s *settings, store admission.Store, signals lifecycle.Signals, log *slog.Logger) error {
	handler, err := admission.NewHandler(s.sidecar(), log)
	if err != nil {
		return err
	}
	host := s.Service + "." + s.Namespace + ".svc"
	keeper, err := admission.NewKeeper(admission.KeeperConfig{Names: []string{host}, Store: store, Log: log})
	if err != nil {
		return err
	}
	var ending atomic.Bool
	ready := func() error {
		if ending.Load() {
			return errors.New("ending")
		}
		return keeper.Ready()
	}
	admin := telemetry.NewAdminHandler(telemetry.AdminConfig{Gatherer: telemetry.NewRegistry(), Ready: ready})
	reviews := http.NewServeMux()
	reviews.Handle("POST /inject", handler)
	inner, err := listen("ROUSE_ADMIN_LISTEN", s.AdminListen, admin, nil)
	if err != nil {
		return err
	}
	outer, err := listen("ROUSE_LISTEN", s.Listen, reviews, &tls.Config{GetCertificate: keeper.Certificate, MinVersion: tls.VersionTLS12})
	if err != nil {
		return errors.Join(err, inner.ln.Close())
	}
	log.Info("webhook is listening", "address", outer.ln.Addr().String(), "admin", inner.ln.Addr().String())
	stage := outer.stage(s.Drain + time.Second)
	stop := stage.Stop
	stage.Stop = func(ctx context.Context) error {
		ending.Store(true)
		select {
		case <-time.After(s.Drain):
		case <-ctx.Done():
		}
		return stop(ctx)
	}
	return lifecycle.RunSignals(signals, s.Grace, inner.stage(time.Second), lifecycle.Stage{Name: "certificates", Run: keeper.Run}, stage)
}

// server is one listener.
type server struct {
	name string
	ln   net.Listener
	http *http.Server
}

func listen(name, addr string, h http.Handler, conf *tls.Config) (*server, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &server{name: name, ln: ln, http: &http.Server{Handler: h, TLSConfig: conf,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute}}
	if conf != nil { // a client that gives up in a handshake is no news
		s.http.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	}
	return s, nil
}

func (s *server) stage(budget time.Duration) lifecycle.Stage {
	return lifecycle.Stage{
		Name: s.name,
		Run: func(context.Context) error {
			run := s.http.Serve
			if s.http.TLSConfig != nil {
				run = func(ln net.Listener) error { return s.http.ServeTLS(ln, "", "") }
			}
			if err := run(s.ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Stop:   s.http.Shutdown,
		Budget: budget,
	}
}
