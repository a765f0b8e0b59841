package up

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// frontage is where requests come in: the activator of this process, or several processes of their own.
type frontage interface {
	put(c *config.Revision)
	remove(id identity.Revision)
	update(u endpoint.Update)
	fail(id identity.Revision, reason string)
	swap(cfg route.Config) error
	// awaitIdle blocks until nobody has anything in flight in a draining pod, or ctx is done.
	awaitIdle(ctx context.Context, id identity.Revision, podUID string)
	counts(id identity.Revision) (parked, inFlight int)
}

// inside is the activator of this process.
type inside struct{ s *stack }

func (f inside) put(c *config.Revision) {
	s := activator.Settings{
		ContainerConcurrency: c.ContainerConcurrency.V,
		QueueLimit:           c.QueueLimit.V,
		QueueDeadline:        c.QueueDeadline.V,
		Timeouts:             forward.Timeouts{Total: c.Timeout.V, FirstByte: c.ResponseStartTimeout.V, Idle: c.IdleTimeout.V},
	}
	s.Choose(c.Dispatching())
	f.s.activator.Put(c.ID, s)
}

func (f inside) remove(id identity.Revision)              { f.s.activator.Remove(id) }
func (f inside) update(u endpoint.Update)                 { f.s.activator.Update(u) }
func (f inside) fail(id identity.Revision, reason string) { f.s.activator.Fail(id, reason) }
func (f inside) swap(cfg route.Config) error              { return f.s.router.Swap(cfg) }

func (f inside) awaitIdle(ctx context.Context, id identity.Revision, podUID string) {
	f.s.activator.AwaitIdle(ctx, id, podUID)
}

func (f inside) counts(id identity.Revision) (parked, inFlight int) {
	parked, inFlight, _ = f.s.activator.Counts(id)
	return parked, inFlight
}

// outside are activator processes, told over their streams.
type outside struct {
	server *assign.Server
	check  *route.Table // proves that what is sent makes a table
}

func (f *outside) put(c *config.Revision) {
	f.server.PutRevision(assign.Revision{
		ID: c.ID, Service: c.Service, Configuration: c.Configuration,
		Settings: assign.Settings{
			ContainerConcurrency: c.ContainerConcurrency.V, QueueLimit: c.QueueLimit.V, QueueDeadline: c.QueueDeadline.V,
			Timeout: c.Timeout.V, ResponseStartTimeout: c.ResponseStartTimeout.V, IdleTimeout: c.IdleTimeout.V,
			Dispatching: c.Dispatching(),
		},
	})
}

func (f *outside) remove(id identity.Revision)              { f.server.RemoveRevision(id) }
func (f *outside) update(u endpoint.Update)                 { f.server.Endpoints(u) }
func (f *outside) fail(id identity.Revision, reason string) { f.server.Fail(id, reason) }

// swap is called by one goroutine at a time: the fleet's lock is held.
func (f *outside) swap(cfg route.Config) error {
	table, err := route.Build(cfg, f.check)
	if err != nil {
		return err
	}
	f.check = table
	f.server.SetRoutes(assign.Routes{Name: "rouse up", Config: cfg})
	return nil
}

func (f *outside) awaitIdle(ctx context.Context, id identity.Revision, podUID string) {
	f.server.AwaitIdle(ctx, id, podUID)
}

func (f *outside) counts(id identity.Revision) (parked, inFlight int) { return f.server.Load(id) }

// buildFrontage chooses where requests come in.
func (s *stack) buildFrontage() error {
	if s.o.Activators == 0 {
		s.front = inside{s}
		return nil
	}
	server, err := assign.NewServer(assign.ServerConfig{Authorize: s.admin.authorize, Changed: func() { s.activators.changed() }, Log: s.log})
	if err != nil {
		return err
	}
	s.activators = newActivators(s, server)
	s.admin.mux.Handle("/assign", server)
	s.admin.closeAssign = server.Close
	s.front = &outside{server: server}
	return nil
}

// checkActivators names what does not go together with activators as processes.
func (o *Options) checkActivators() error {
	switch {
	case o.Activators < 0:
		return fmt.Errorf("--activators %d: must be 0 or more", o.Activators)
	case o.Activators > 0 && o.Record != "":
		return errors.New("--record needs the activator in this process: leave --activators out")
	case o.Activators > 0 && o.ActivatorDrain < 0:
		return fmt.Errorf("the minimum of an activator's drain is %s: must not be negative", o.ActivatorDrain)
	}
	return nil
}

// activatorDrain is how long an activator process goes on accepting on one machine, where everybody hears of it at once.
const activatorDrain = 500 * time.Millisecond
