package main

import "github.com/prometheus/client_golang/prometheus"

// count is a metric that is read when somebody asks.
type count struct {
	name, help string
	value      func() float64
}

// gauges are what control itself can say about its share.
func gauges(n *node) []count {
	return []count{
		{"rouse_control_workloads", "Annotated workloads in control.", func() float64 { return float64(n.kube.Workloads()) }},
		{"rouse_control_buckets_held", "Buckets of workloads that this instance decides for.", func() float64 { return float64(n.kube.Held()) }},
		{"rouse_control_stat_streams", "Streams of load reports that are open.", func() float64 { return float64(n.stats.Counts().Streams) }},
		{"rouse_control_activators", "Activators that are connected.", n.connectedActivators},
	}
}

// counters are what control has done so far.
func counters(n *node) []count {
	return []count{
		{"rouse_control_scrapes_total", "Scrapes of queue-proxies that push no reports.", func() float64 {
			c := n.scraper.Counts()
			return float64(c.Fetched + c.Failed)
		}},
		{"rouse_control_scrapes_failed_total", "Scrapes that failed.", func() float64 { return float64(n.scraper.Counts().Failed) }},
	}
}

func registerCounts(n *node) error {
	for _, c := range counters(n) {
		if err := n.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help}, c.value)); err != nil {
			return err
		}
	}
	for _, g := range gauges(n) {
		if err := n.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)); err != nil {
			return err
		}
	}
	return nil
}
