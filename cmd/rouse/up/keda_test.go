package up

import (
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// TestKedaIsAnswered asks --keda over a socket. An empty message names no service, which the scaler says in its words;
// what it says about services is tested where it is made.
func TestKedaIsAnswered(t *testing.T) {
	t.Parallel()
	h := start(t, service("hello", "hello", 0, 1, ""), func(o *Options) { o.Keda = "127.0.0.1:0" })
	defer h.close()
	addr := <-h.stack.scaler.bound
	c, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = c.Invoke(t.Context(), "/externalscaler.ExternalScaler/IsActive", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "metadata service") {
		t.Errorf("IsActive of nobody = %v, want InvalidArgument that names the remedy", err)
	}
}

func TestKedaAddressInUseEndsRouseUp(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	h := start(t, service("hello", "hello", 0, 1, ""), func(o *Options) { o.Keda = ln.Addr().String() })
	defer h.client.CloseIdleConnections()
	if err := <-h.ended; err == nil || !strings.Contains(err.Error(), "--keda") {
		t.Errorf("rouse up ended with %v, want an error that names --keda", err)
	}
	h.stop()
}
