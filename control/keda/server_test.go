package keda

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loads is a Source whose demand a test sets.
type loads struct {
	mu      sync.Mutex
	demand  map[identity.Key]control.Demand // guarded by mu
	failing error                           // guarded by mu
	changes map[identity.Key]chan struct{}  // guarded by mu
	gone    map[identity.Key]chan struct{}  // guarded by mu; closed when a watch is cancelled
}

func newLoads() *loads {
	return &loads{
		demand: map[identity.Key]control.Demand{}, changes: map[identity.Key]chan struct{}{}, gone: map[identity.Key]chan struct{}{},
	}
}

func (l *loads) Demand(k identity.Key) (control.Demand, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return control.Demand{}, l.failing
	}
	d, ok := l.demand[k]
	if !ok {
		return d, fmt.Errorf("%w: %s", control.ErrUnknownRevision, k)
	}
	return d, nil
}

func (l *loads) Watch(k identity.Key) (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, gone := make(chan struct{}, 1), make(chan struct{})
	l.changes[k], l.gone[k] = c, gone
	return c, func() { close(gone) }
}

func (l *loads) set(k identity.Key, active bool, loads ...control.Load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.demand[k] = control.Demand{Active: active, Loads: loads}
	l.tell(k)
}

// tell is called with mu held.
func (l *loads) tell(k identity.Key) {
	if c := l.changes[k]; c != nil {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (l *loads) remove(k identity.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.demand, k)
	l.tell(k)
}

func (l *loads) left(k identity.Key) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone[k]
}

// serve runs a server and returns a client of it and how to end the server.
func serve(t *testing.T, source Source) (*grpc.ClientConn, func()) {
	t.Helper()
	s, err := New(Config{}, source)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	client, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		end()
	})
	return client, end
}

func call(t *testing.T, c *grpc.ClientConn, method string, q, a any) error {
	t.Helper()
	return c.Invoke(t.Context(), "/externalscaler.ExternalScaler/"+method, q, a)
}

// stream opens one of the two streams.
func stream(t *testing.T, c *grpc.ClientConn, ctx context.Context, method string, o *objectRef) grpc.ClientStream {
	t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/externalscaler.ExternalScaler/"+method)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(o), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	return s
}

func next[T any, P interface {
	*T
	message
}](t *testing.T, s grpc.ClientStream) T {
	t.Helper()
	var m T
	if err := s.RecvMsg(P(&m)); err != nil {
		t.Fatal(err)
	}
	return m
}

var hello = identity.Key{Namespace: "default", Name: "hello"}

func TestUnaryCalls(t *testing.T) {
	source := newLoads()
	source.set(hello, true, control.Load{Metric: kpa.Concurrency, Total: 42.5, Target: 7}, control.Load{Metric: kpa.RPS, Total: 900, Target: 0.5})
	c, _ := serve(t, source)
	own := objectRef{name: "hello", namespace: "default"}
	other := objectRef{name: "so", namespace: "apps", metadata: map[string]string{"service": "hello", "namespace": "default"}}
	for _, o := range []*objectRef{&own, &other} {
		var active activity
		if err := call(t, c, "IsActive", o, &active); err != nil || !active.active {
			t.Errorf("IsActive(%v) = %v, %v, want true", o, active, err)
		}
		var s specs
		if err := call(t, c, "GetMetricSpec", o, &s); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]spec{{"concurrency", 7}, {"rps", 0.5}}, s.all, unexported); diff != "" {
			t.Errorf("GetMetricSpec (-want +got):\n%s", diff)
		}
		for metric, want := range map[string][]value{
			"concurrency": {{"concurrency", 42.5}}, "rps": {{"rps", 900}}, "": {{"concurrency", 42.5}, {"rps", 900}},
		} {
			var v values
			if err := call(t, c, "GetMetrics", &metricsRequest{*o, metric}, &v); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, v.all, unexported); diff != "" {
				t.Errorf("GetMetrics(%q) (-want +got):\n%s", metric, diff)
			}
		}
	}
}

func TestFaultsHaveCodes(t *testing.T) {
	source := newLoads()
	source.set(hello, false, control.Load{Metric: kpa.RPS, Target: 1})
	c, _ := serve(t, source)
	check := func(what string, err error, want codes.Code) {
		t.Helper()
		if got := status.Code(err); got != want {
			t.Errorf("%s: %v, want code %s", what, err, want)
		}
	}
	var active activity
	check("unknown service", call(t, c, "IsActive", &objectRef{name: "nobody", namespace: "default"}, &active), codes.NotFound)
	check("no name", call(t, c, "IsActive", &objectRef{namespace: "default"}, &active), codes.InvalidArgument)
	check("unknown metric", call(t, c, "GetMetrics", &metricsRequest{objectRef{name: "hello", namespace: "default"}, "speed"}, &values{}), codes.InvalidArgument)
	check("metrics of nobody", call(t, c, "GetMetrics", &metricsRequest{}, &values{}), codes.InvalidArgument)
	check("specs of nobody", call(t, c, "GetMetricSpec", &objectRef{}, &specs{}), codes.InvalidArgument)
	check("unknown method", call(t, c, "Scale", &objectRef{}, &active), codes.Unimplemented)
	check("stream of nobody", stream(t, c, t.Context(), "StreamIsActive", &objectRef{}).RecvMsg(&active), codes.InvalidArgument)
	check("too long", call(t, c, "IsActive", &objectRef{name: string(make([]byte, largestRequest))}, &active), codes.ResourceExhausted)
	source.mu.Lock()
	source.failing = errors.New("not now")
	source.mu.Unlock()
	check("source fails", call(t, c, "IsActive", &objectRef{name: "hello", namespace: "default"}, &active), codes.Unavailable)
}

func TestStreamsSayChangesOnly(t *testing.T) {
	source := newLoads()
	load := control.Load{Metric: kpa.RPS, Total: 1, Target: 10}
	source.set(hello, false, load)
	c, _ := serve(t, source)
	o := &objectRef{name: "hello", namespace: "default"}
	active := stream(t, c, t.Context(), "StreamIsActive", o)
	if next[activity](t, active).active {
		t.Error("the stream began with active, want what is so at its opening: inactive")
	}
	for _, want := range []bool{true, false, true} {
		load.Total++
		source.set(hello, !want, load) // says nothing new
		source.set(hello, want, load)
		if got := next[activity](t, active).active; got != want {
			t.Errorf("the stream said %t, want %t", got, want)
		}
	}
	source.remove(hello)
	if err := active.RecvMsg(&activity{}); status.Code(err) != codes.NotFound {
		t.Errorf("the stream of a service that went ended with %v, want NotFound", err)
	}
}

func TestStreamOfSpecs(t *testing.T) {
	source := newLoads()
	c, _ := serve(t, source)
	source.set(hello, true, control.Load{Metric: kpa.Concurrency, Target: 7})
	ctx, cancel := context.WithCancel(t.Context())
	s := stream(t, c, ctx, "StreamMetricSpec", &objectRef{name: "hello", namespace: "default"})
	if got := next[specs](t, s).all; len(got) != 1 || got[0].target != 7 {
		t.Errorf("specs %v, want a target of 7", got)
	}
	source.set(hello, true, control.Load{Metric: kpa.Concurrency, Target: 70})
	if got := next[specs](t, s).all; len(got) != 1 || got[0].target != 70 {
		t.Errorf("specs %v, want a target of 70", got)
	}
	cancel()
	<-source.left(hello) // a client that leaves ends its watch
}

func TestEndOfTheServerEndsStreams(t *testing.T) {
	source := newLoads()
	source.set(hello, true)
	c, end := serve(t, source)
	s := stream(t, c, t.Context(), "StreamIsActive", &objectRef{name: "hello", namespace: "default"})
	next[activity](t, s)
	end()
	if err := s.RecvMsg(&activity{}); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want Unavailable", err)
	}
	<-source.left(hello)
}

func TestNewAndServeRefuse(t *testing.T) {
	if _, err := New(Config{}, nil); err == nil {
		t.Error("New took no source")
	}
	if _, err := New(Config{Ping: -1}, newLoads()); err == nil {
		t.Error("New took a negative Ping")
	}
	s, err := New(Config{}, newLoads())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Serve(t.Context(), ln); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

// TestOverTheLoop is the whole way: a report to the control loop wakes KEDA's stream and becomes the metric.
func TestOverTheLoop(t *testing.T) {
	loop, err := control.New(control.Config{}, control.Deps{Pods: &endpoint.Book{}})
	if err != nil {
		t.Fatal(err)
	}
	rev, faults := config.Resolve(config.Input{
		ID: identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u"}, Service: "hello",
		Annotations: map[string]string{"autoscaling.knative.dev/target": "10", "autoscaling.knative.dev/target-utilization-percentage": "100"},
	})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if err := loop.Add(rev, control.Target{Scale: nobody{}}); err != nil {
		t.Fatal(err)
	}
	c, _ := serve(t, loop)
	o := &objectRef{name: "hello", namespace: "default"}
	s := stream(t, c, t.Context(), "StreamIsActive", o)
	if next[activity](t, s).active {
		t.Error("active without a request")
	}
	loop.Report(metrics.Message{Namespace: "default", Name: "hello-00001", Stat: metrics.Stat{PodName: "activator", AverageConcurrency: 35}})
	if !next[activity](t, s).active {
		t.Error("inactive with 35 requests in flight")
	}
	var v values
	if err := call(t, c, "GetMetrics", &metricsRequest{*o, "concurrency"}, &v); err != nil {
		t.Fatal(err)
	}
	var all specs
	if err := call(t, c, "GetMetricSpec", o, &all); err != nil {
		t.Fatal(err)
	}
	if len(v.all) != 1 || v.all[0].value <= 0 || len(all.all) != 1 || all.all[0] != (spec{"concurrency", 10}) {
		t.Errorf("metrics %v at specs %v, want a load at 10 per pod", v.all, all.all)
	}
	loop.Remove(rev.ID)
}

// nobody is a scale target for a loop that KEDA scales beside.
type nobody struct{}

func (nobody) Apply(context.Context, control.Request) error { return nil }
