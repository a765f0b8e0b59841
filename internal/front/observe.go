package front

import "github.com/prometheus/client_golang/prometheus"

// observe registers the metrics of the streams and of per-revision ports.
func (p *plane) observe(registry prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rouse_assign_connected", Help: "Assignment streams that are up: 0 while control is away.",
		}, func() float64 { return float64(p.client.Counts().Connected) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "rouse_assign_lost_total", Help: "Connections to control that broke or could not be made.",
		}, func() float64 { return float64(p.client.Counts().Lost) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rouse_activator_ports", Help: "Per-revision ports that are open.",
		}, func() float64 { return float64(p.ports.count()) }),
	} {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}
