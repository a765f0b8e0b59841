package keda

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/identity"
)

const (
	// largestRequest is far above any trigger's metadata.
	largestRequest = 64 << 10
	// mostStreams bounds what one connection may hold open: KEDA has one stream of each kind per ScaledObject.
	mostStreams = 20_000
	// patience bounds the end: a client that reads nothing is cut.
	patience = time.Second
)

// Source tells what is asked of services. [control.Loop] is one.
type Source interface {
	// Demand fails with control.ErrUnknownRevision when there is no such service.
	Demand(service identity.Key) (control.Demand, error)
	// Watch returns a channel that gets a value when the demand may have changed.
	Watch(service identity.Key) (changes <-chan struct{}, cancel func())
}

// Config of a [Server]. The zero value of a field means its default.
type Config struct {
	// TLS, when set, encrypts; with ClientCAs and ClientAuth it also says who may ask. Default: clear text, as KEDA's
	// trigger has it without certificates.
	TLS *tls.Config
	// Ping is how long a connection may be silent before the client is asked whether it is still there; streams of a
	// client that vanished end soon after. Default 30 s.
	Ping time.Duration
}

// Server answers KEDA. It is safe for concurrent use. Make one with [New].
type Server struct {
	source Source
	grpc   *grpc.Server
	ending chan struct{} // closed when streams must end
}

// New returns a server that does not listen yet.
func New(cfg Config, source Source) (*Server, error) {
	if source == nil {
		return nil, errors.New("keda: New needs a Source")
	}
	if cfg.Ping < 0 {
		return nil, fmt.Errorf("keda: Ping %s must be 0 (default) or more", cfg.Ping)
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(largestRequest),
		grpc.MaxConcurrentStreams(mostStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: cmp.Or(cfg.Ping, 30*time.Second)}),
		grpc.WaitForHandlers(true),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s := &Server{source: source, grpc: grpc.NewServer(options...), ending: make(chan struct{})}
	s.grpc.RegisterService(description(), s)
	return s, nil
}

// Serve answers on ln, which it closes, until ctx ends; then it ends the streams, lets calls finish and returns nil.
// Call it once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(ln) }()
	select {
	case err := <-served:
		close(s.ending)
		s.grpc.Stop()
		return fmt.Errorf("keda: %w", err)
	case <-ctx.Done():
		close(s.ending)
		cut := time.AfterFunc(patience, s.grpc.Stop)
		s.grpc.GracefulStop()
		cut.Stop()
		return nilOr(<-served)
	}
}

// nilOr takes the error that says that the server was stopped for none.
func nilOr(err error) error {
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("keda: %w", err)
}

// service is the one that a trigger means: metadata wins over the names of the ScaledObject.
func (o *objectRef) service() (identity.Key, error) {
	k := identity.Key{
		Namespace: cmp.Or(o.metadata["namespace"], o.namespace),
		Name:      cmp.Or(o.metadata["service"], o.name),
	}
	if k.Namespace == "" || k.Name == "" {
		return k, status.Error(codes.InvalidArgument,
			"no service is named: set the trigger's metadata service and namespace, or send the ScaledObject's name and namespace")
	}
	return k, nil
}

func (s *Server) demand(o *objectRef) (control.Demand, error) {
	k, err := o.service()
	if err != nil {
		return control.Demand{}, err
	}
	d, err := s.source.Demand(k)
	switch {
	case errors.Is(err, control.ErrUnknownRevision):
		return d, status.Errorf(codes.NotFound, "no service or revision %s is known here: compare the trigger's metadata with `rouse explain`", k)
	case err != nil:
		return d, status.Error(codes.Unavailable, err.Error())
	}
	return d, nil
}

func (s *Server) isActive(o *objectRef) (*activity, error) {
	d, err := s.demand(o)
	if err != nil {
		return nil, err
	}
	return &activity{d.Active}, nil
}

func (s *Server) metricSpec(o *objectRef) (*specs, error) {
	d, err := s.demand(o)
	if err != nil {
		return nil, err
	}
	var all specs
	for _, l := range d.Loads {
		all.all = append(all.all, spec{l.Metric.String(), l.Target})
	}
	return &all, nil
}

// metrics answers with the metric that is asked for; no name means all.
func (s *Server) metrics(q *metricsRequest) (*values, error) {
	d, err := s.demand(&q.object)
	if err != nil {
		return nil, err
	}
	var all values
	var known []string
	for _, l := range d.Loads {
		known = append(known, l.Metric.String())
		if q.metric == "" || q.metric == l.Metric.String() {
			all.all = append(all.all, value{l.Metric.String(), l.Total})
		}
	}
	if len(all.all) == 0 {
		return nil, status.Errorf(codes.InvalidArgument, "metric %q is not one that the service aims at, which are %q", q.metric, known)
	}
	return &all, nil
}

func (s *Server) streamIsActive(o *objectRef, stream grpc.ServerStream) error {
	return follow(s, o, stream, s.isActive, func(a, b *activity) bool { return *a == *b })
}

func (s *Server) streamMetricSpec(o *objectRef, stream grpc.ServerStream) error {
	return follow(s, o, stream, s.metricSpec, func(a, b *specs) bool { return slices.Equal(a.all, b.all) })
}

// follow sends what a look finds, and again each time that it finds something else, until the client leaves, the
// server ends or the service is gone.
func follow[T any](s *Server, o *objectRef, stream grpc.ServerStream, look func(*objectRef) (*T, error), same func(a, b *T) bool) error {
	k, err := o.service()
	if err != nil {
		return err
	}
	changes, cancel := s.source.Watch(k) // before the first look: what changes after it is told
	defer cancel()
	var sent *T
	for {
		now, err := look(o)
		if err != nil {
			return err
		}
		if sent == nil || !same(sent, now) {
			if err := stream.SendMsg(now); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-changes:
		case <-stream.Context().Done():
			return nil
		case <-s.ending:
			return status.Error(codes.Unavailable, "the server ends: ask another one, or again")
		}
	}
}
