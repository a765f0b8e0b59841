// Package e2e runs Rouse on a real Kubernetes: the binaries of ./cmd as images, on the cluster of package launch, with the tools of package harness.
package e2e
