package main

import "github.com/prometheus/client_golang/prometheus"

// registerCounts registers what control itself can say about its share.
func registerCounts(n *node) error {
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"rouse_control_workloads", "Annotated workloads in control.", func() float64 { return float64(n.kube.Workloads()) }},
		{"rouse_control_buckets_held", "Buckets of revisions that this instance holds.", func() float64 { return float64(n.kube.Held()) }},
		{"rouse_control_stat_streams", "Streams of load reports that are open.", func() float64 { return float64(n.stats.Counts().Streams) }},
		{"rouse_control_activators", "Activators that are connected.", func() float64 { return float64(len(n.assign.Activators())) }},
	} {
		if err := n.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)); err != nil {
			return err
		}
	}
	return nil
}
