// Package knative is the test of Rouse inside Knative Serving: its own controller, autoscaler, webhook, activator and queue-proxy from the modules
// that test/knative pins, on a real Kubernetes, with our queue-proxy and our activator each alone and both in the places of Knative's. Knative's
// own pair goes through the same cases first: it is what the others are held against.
package knative
