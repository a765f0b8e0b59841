package keda

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
)

// serviceName is the service as externalscaler.proto names it.
const serviceName = "externalscaler.ExternalScaler"

// message is what the codec encodes and decodes.
type message interface {
	encode(b []byte) []byte
	decode(b []byte) error
}

// codec puts messages on the wire. It goes by the name of protobuf's, because that is what it writes.
type codec struct{}

// Name implements encoding.Codec.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("keda: %T is no message of the external scaler", v)
	}
	return m.encode(nil), nil
}

// Unmarshal implements encoding.Codec.
func (codec) Unmarshal(b []byte, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("keda: %T is no message of the external scaler", v)
	}
	return m.decode(b)
}

// description is externalscaler.ExternalScaler for gRPC.
func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Metadata:    "externalscaler.proto",
		Methods: []grpc.MethodDesc{
			{MethodName: "IsActive", Handler: unary((*Server).isActive)},
			{MethodName: "GetMetricSpec", Handler: unary((*Server).metricSpec)},
			{MethodName: "GetMetrics", Handler: unary((*Server).metrics)},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "StreamIsActive", ServerStreams: true, Handler: streaming((*Server).streamIsActive)},
			{StreamName: "StreamMetricSpec", ServerStreams: true, Handler: streaming((*Server).streamMetricSpec)},
		},
	}
}

// unary makes a method of the server one of gRPC's.
func unary[Q, A any, PQ interface {
	*Q
	message
}](method func(*Server, *Q) (*A, error)) grpc.MethodHandler {
	return func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var q Q
		if err := decode(PQ(&q)); err != nil {
			return nil, err
		}
		return method(srv.(*Server), &q)
	}
}

// streaming makes a method that answers a ScaledObject with a stream one of gRPC's.
func streaming(method func(*Server, *objectRef, grpc.ServerStream) error) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		var o objectRef
		if err := stream.RecvMsg(&o); err != nil {
			return err
		}
		return method(srv.(*Server), &o, stream)
	}
}
