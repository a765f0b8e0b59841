// Package keda holds the external scaler of Rouse against KEDA's own client: the generated one of KEDA's release, over
// gRPC as KEDA speaks it. It is a module of its own, because nothing of Rouse needs KEDA.
package keda
