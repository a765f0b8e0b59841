package main

import (
	"testing"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// TestFurtherPortsAreLoadOfTheWorkload: what an activator has in flight there counts beside what it has on the first port.
func TestFurtherPortsAreLoadOfTheWorkload(t *testing.T) {
	loop, err := control.New(control.Config{}, control.Deps{Pods: &endpoint.Book{}})
	if err != nil {
		t.Fatal(err)
	}
	id := identity.Revision{Namespace: "default", Name: "hello", UID: "u1"}
	cfg, _ := config.Resolve(config.Input{ID: id, Service: "hello"})
	if err := loop.Add(cfg, control.Target{Scale: scaleTarget{}, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	reports := renamed{&node{loop: loop}}
	for _, r := range []struct {
		name, uid string
		inFlight  float64
	}{{"hello:grpc", "u1:grpc", 2}, {"hello:admin", "u1:admin", 4}, {"hello:grpc", "u0:grpc", 100}} {
		reports.Report(metrics.Message{Namespace: "default", Name: r.name, Stat: metrics.Stat{
			PodName: "activator-1", AverageConcurrency: r.inFlight, Extension: metrics.Extension{Version: metrics.ExtensionVersion, RevisionUID: r.uid}}})
	}
	loop.Report(metrics.Message{Namespace: "default", Name: "hello", Stat: metrics.Stat{PodName: "activator-1", AverageConcurrency: 1}})
	e, err := loop.Explain(id.Key())
	if err != nil || e.InFlight != 7 {
		t.Errorf("%v in flight (%v), want 7: 1 on the first port, 2 and 4 on the others", e.InFlight, err)
	}
}
