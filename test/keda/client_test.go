package keda

import (
	"context"
	"net"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/keda"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// patience bounds every wait for what must come.
const patience = 30 * time.Second

// unscaled is the target of a loop whose pods KEDA scales.
type unscaled struct{}

func (unscaled) Apply(context.Context, control.Request) error { return nil }

// rouse is a control loop with one service, and KEDA's client of its external scaler.
func rouse(t *testing.T) (*control.Loop, identity.Revision, pb.ExternalScalerClient) {
	t.Helper()
	loop, err := control.New(control.Config{}, control.Deps{Pods: &endpoint.Book{}})
	if err != nil {
		t.Fatal(err)
	}
	rev, faults := config.Resolve(config.Input{
		ID: identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u"}, Service: "hello",
		Annotations: map[string]string{"autoscaling.knative.dev/target": "10", "autoscaling.knative.dev/target-utilization-percentage": "70"},
	})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if err := loop.Add(rev, control.Target{Scale: unscaled{}}); err != nil {
		t.Fatal(err)
	}
	server, err := keda.New(keda.Config{}, loop)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	// As in KEDA: clear text without certificates, and round robin over what the name resolves to.
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return loop, rev.ID, pb.NewExternalScalerClient(conn)
}

func report(loop *control.Loop, rev identity.Revision, concurrency float64) {
	loop.Report(metrics.Message{Namespace: rev.Namespace, Name: rev.Name, Stat: metrics.Stat{
		PodName: "activator", AverageConcurrency: concurrency,
		Extension: metrics.Extension{Version: metrics.ExtensionVersion, RevisionUID: rev.UID},
	}})
}

// TestKEDAsClient makes every call that KEDA makes: whether to leave zero, what to give to HPA, and the load.
func TestKEDAsClient(t *testing.T) {
	loop, rev, client := rouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ref := &pb.ScaledObjectRef{Name: "hello", Namespace: "default", ScalerMetadata: map[string]string{"scalerAddress": "x"}}

	if a, err := client.IsActive(ctx, ref); err != nil || a.GetResult() {
		t.Errorf("IsActive without load = %v, %v", a, err)
	}
	pushes, err := client.StreamIsActive(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := pushes.Recv(); err != nil || a.GetResult() {
		t.Errorf("StreamIsActive begins with %v, %v, want inactive", a, err)
	}
	report(loop, rev, 35)
	if a, err := pushes.Recv(); err != nil || !a.GetResult() {
		t.Errorf("StreamIsActive with load says %v, %v, want active", a, err)
	}
	if a, err := client.IsActive(ctx, ref); err != nil || !a.GetResult() {
		t.Errorf("IsActive with load = %v, %v", a, err)
	}

	specs, err := client.GetMetricSpec(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if s := specs.GetMetricSpecs(); len(s) != 1 || s[0].GetMetricName() != "concurrency" || s[0].GetTargetSizeFloat() != 7 || s[0].GetTargetSize() != 7 {
		t.Errorf("GetMetricSpec = %v, want concurrency at 70 %% of 10", s)
	}
	got, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "concurrency"})
	if err != nil {
		t.Fatal(err)
	}
	if v := got.GetMetricValues(); len(v) != 1 || v[0].GetMetricName() != "concurrency" || v[0].GetMetricValueFloat() != 35 || v[0].GetMetricValue() != 35 {
		t.Errorf("GetMetrics = %v, want the 35 in flight", v)
	}
}

// TestKEDAsClientIsToldWhatIsWrong: what KEDA logs and shows in the ScaledObject's conditions.
func TestKEDAsClientIsToldWhatIsWrong(t *testing.T) {
	loop, rev, client := rouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := client.IsActive(ctx, &pb.ScaledObjectRef{Name: "other", Namespace: "default"}); status.Code(err) != codes.NotFound {
		t.Errorf("IsActive of a stranger = %v, want NOT_FOUND", err)
	}
	ref := &pb.ScaledObjectRef{Name: "anything", Namespace: "default", ScalerMetadata: map[string]string{"service": "hello"}}
	if _, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "cpu"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("GetMetrics of what nobody aims at = %v, want INVALID_ARGUMENT", err)
	}
	pushes, err := client.StreamIsActive(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pushes.Recv(); err != nil {
		t.Fatal(err)
	}
	loop.Remove(rev)
	if a, err := pushes.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("StreamIsActive after the service has gone = %v, %v, want NOT_FOUND", a, err)
	}
}
