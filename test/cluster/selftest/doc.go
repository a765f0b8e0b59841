// Package selftest proves the cluster itself, so that a test of Rouse that fails has one suspect: kubelet's order of starts and stops, probes, hooks,
// grace periods, logs, names, rights and routes are what Kubernetes documents. `make e2e` runs it inside the sandbox.
package selftest
