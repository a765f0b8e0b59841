package conformance

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rousehq/rouse/internal/endpoint"
)

// TestGRPCInterop runs gRPC's interoperability cases that need no credentials through the engine. A case that fails
// ends the process with the reason: that is how the suite reports.
func TestGRPCInterop(t *testing.T) {
	srv := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(srv, named{interop.NewTestServer()})
	ln := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	proxy := proxyTo(t, ln.Addr().(*net.TCPAddr), endpoint.H2C)
	cc, err := grpc.NewClient(proxy.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	client := testgrpc.NewTestServiceClient(cc)
	simple := func(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context) {
		return func(ctx context.Context) { f(ctx, client) }
	}
	for _, tc := range []struct {
		name string
		run  func(ctx context.Context)
	}{
		{"empty_unary", simple(interop.DoEmptyUnaryCall)},
		{"large_unary", simple(interop.DoLargeUnaryCall)},
		{"client_streaming", simple(interop.DoClientStreaming)},
		{"server_streaming", simple(interop.DoServerStreaming)},
		{"ping_pong", simple(interop.DoPingPong)},
		{"empty_stream", simple(interop.DoEmptyStream)},
		{"timeout_on_sleeping_server", simple(interop.DoTimeoutOnSleepingServer)},
		{"cancel_after_begin", simple(interop.DoCancelAfterBegin)},
		{"cancel_after_first_response", simple(interop.DoCancelAfterFirstResponse)},
		{"custom_metadata", simple(interop.DoCustomMetadata)},
		{"status_code_and_message", simple(interop.DoStatusCodeAndMessage)},
		{"special_status_message", simple(interop.DoSpecialStatusMessage)},
		{"unimplemented_method", func(ctx context.Context) { interop.DoUnimplementedMethod(ctx, cc) }},
		{"unimplemented_service", func(ctx context.Context) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
		}},
		{"pick_first_unary", func(ctx context.Context) { interop.DoPickFirstUnary(ctx, client) }},
		{"rpc_soak", func(ctx context.Context) { soak(ctx, proxy.String(), shared(cc)) }},
		{"channel_soak", func(ctx context.Context) { soak(ctx, proxy.String(), dialed(t, proxy.String())) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			tc.run(ctx)
		})
	}
}

// named is the suite's server with what pick_first_unary asks for besides: a name.
type named struct{ testgrpc.TestServiceServer }

func (s named) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	out, err := s.TestServiceServer.UnaryCall(ctx, in)
	if err == nil && in.GetFillServerId() {
		out.ServerId = "pod"
	}
	return out, err
}

func shared(cc *grpc.ClientConn) func() (*grpc.ClientConn, func()) {
	return func() (*grpc.ClientConn, func()) { return cc, func() {} }
}

func dialed(t *testing.T, addr string) func() (*grpc.ClientConn, func()) {
	return func() (*grpc.ClientConn, func()) {
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Error(err)
		}
		return cc, func() { cc.Close() }
	}
}

func soak(ctx context.Context, addr string, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: time.Minute,
		OverallTimeout: time.Minute, ServerAddr: addr, NumWorkers: 2, Iterations: 20, ChannelForTest: channel,
	})
}
