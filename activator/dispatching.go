package activator

import "github.com/rousehq/rouse/internal/config"

// Choose takes over how a revision's pods are chosen, as it was configured.
func (s *Settings) Choose(d config.Dispatching) {
	s.Affinity = Affinity{Name: d.Affinity.Name, Attributes: d.Affinity.Attributes, By: map[string]AffinityBy{
		config.AffinityCookie: ByCookie, config.AffinityHeader: ByHeader, config.AffinitySetCookie: ByOwnCookie}[d.Affinity.By]}
	s.Zone = ZonePreference(d.Zone)
	s.Outlier = Outlier(d.Outlier)
	s.Probe = Probe{Path: d.Probe.Path, By: map[string]ProbeBy{
		config.ProbeQueue: QueueProbe, config.ProbeHTTP: HTTPProbe, config.ProbeTCP: TCPProbe}[d.Probe.By]}
}
