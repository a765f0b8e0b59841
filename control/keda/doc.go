// Package keda is a KEDA external scaler: a gRPC server that tells KEDA the load that the control loop measures, for
// those who let KEDA and its HorizontalPodAutoscaler set the replicas.
//
//	triggers:
//	  - type: external-push
//	    metadata:
//	      scalerAddress: rouse.rouse-system:9464
//	      service: hello # default: the ScaledObject's own name
//
// It speaks the service externalscaler.ExternalScaler with KEDA's field numbers, its stream of metric specs included.
// A service is active while a request is in flight or parked or the stable window has load; the streams say so within
// the report that brings it. Each metric of the newest revision becomes one metric, named as in annotations, whose
// value is the total over all pods and whose target is what one pod should carry: HPA asks for their quotient, rounded
// up, as the loop itself does. Who lets KEDA scale must not let the loop scale the same pods.
//
// It decides nothing, keeps no state besides its streams, and trusts whoever can connect: give Config.TLS a client CA,
// or bind it to an address that only KEDA reaches. Messages are small and few, so that they are encoded by hand
// here; nothing is generated.
//
// Concurrency: a Server may be used from any goroutine. Serve blocks and leaves nothing behind.
package keda
