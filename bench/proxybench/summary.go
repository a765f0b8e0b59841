//go:build linux

package proxybench

import (
	"slices"
)

// cell is what one contender did in one scenario, over all rounds.
type cell struct {
	CPU, CPUMin float64 // µs per request: median and minimum
	RPS         float64
	P50, P99    float64 // µs
	AddedP50    float64 // µs above the backend alone, open loop only
	Errors      int
	FirstError  string
	rounds      []Row
}

// summary is a whole run, for reports.
type summary struct {
	Contenders []Row // one row each, for name, version, hash and memory
	Scenarios  []string
	cells      map[[2]string]cell
}

func summarise(rows []Row) summary {
	s := summary{cells: map[[2]string]cell{}}
	for _, r := range rows {
		if !slices.ContainsFunc(s.Contenders, func(c Row) bool { return c.Contender == r.Contender }) {
			s.Contenders = append(s.Contenders, r)
		}
		if !slices.Contains(s.Scenarios, r.Scenario) {
			s.Scenarios = append(s.Scenarios, r.Scenario)
		}
		key := [2]string{r.Contender, r.Scenario}
		c := s.cells[key]
		c.rounds = append(c.rounds, r)
		s.cells[key] = c
	}
	for key, c := range s.cells {
		s.cells[key] = c.condensed()
	}
	return s
}

func (c cell) condensed() cell {
	of := func(f func(Row) float64) []float64 {
		var v []float64
		for _, r := range c.rounds {
			v = append(v, f(r))
		}
		return v
	}
	cpu := of(func(r Row) float64 { return r.CPUMicros })
	c.CPU, c.CPUMin = median(cpu), slices.Min(cpu)
	c.RPS = median(of(func(r Row) float64 { return r.RPS }))
	c.P50 = median(of(func(r Row) float64 { return r.P50 }))
	c.P99 = median(of(func(r Row) float64 { return r.P99 }))
	c.AddedP50 = median(of(func(r Row) float64 { return r.P50 - r.DirectP50 }))
	for _, r := range c.rounds {
		c.Errors += r.Errors
		if c.FirstError == "" {
			c.FirstError = r.FirstError
		}
	}
	return c
}

func (s summary) cell(contender, scenario string) (cell, bool) {
	c, ok := s.cells[[2]string{contender, scenario}]
	return c, ok
}

// contender returns the row of a contender that took part.
func (s summary) contender(name string) (Row, bool) {
	i := slices.IndexFunc(s.Contenders, func(r Row) bool { return r.Contender == name })
	if i < 0 {
		return Row{}, false
	}
	return s.Contenders[i], true
}

// median of v, the mean of the middle two for an even count, 0 for none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}

// gate is a bound that ours must keep, with the figure that we reach for.
type gate struct {
	Metric  string
	Got     float64
	Gate    float64
	Stretch float64
	Unit    string
}

// Verdict in one word.
func (g gate) Verdict() string {
	switch {
	case g.Got <= g.Stretch:
		return "stretch"
	case g.Got <= g.Gate:
		return "ok"
	}
	return "MISSED"
}

// gates are those whose figures the run has.
func (s summary) gates() []gate {
	var out []gate
	for _, b := range []struct {
		rival, scenario string
		gate, stretch   float64
	}{
		{"knative", "c1", 0.55, 0.42}, {"knative", "c64", 0.25, 0.20}, {"knative", "c512", 0.27, 0.21},
		{"knative", "post1k", 0.24, 0.17}, {"knative", "get64k", 0.36, 0.30}, {"knative", "open6000", 0.70, 0.55},
		{"haproxy", "c64", 1.3, 1.0}, {"haproxy", "c512", 1.35, 1.0},
	} {
		ours, ok := s.cell("rouse", b.scenario)
		theirs, ok2 := s.cell(b.rival, b.scenario)
		if ok && ok2 && theirs.CPU > 0 {
			out = append(out, gate{"CPU, " + b.scenario + ", to " + b.rival, ours.CPU / theirs.CPU, b.gate, b.stretch, "×"})
		}
	}
	both, ok := s.cell("series", "c64")
	alone, ok2 := s.cell("knative", "c64")
	if ok && ok2 && alone.CPU > 0 {
		out = append(out, gate{"CPU, c64, activator and queue-proxy, to knative's queue-proxy alone", both.CPU / alone.CPU, 0.45, 0.35, "×"})
	}
	ours, ok := s.contender("rouse")
	if !ok || ours.RSS == 0 {
		return out
	}
	const kb, mb = 1e3, 1e6
	out = append(out,
		gate{"memory per parked request", float64(ours.PerParked) / kb, 9, 4.5, "KB"},
		gate{"memory per idle connection", float64(ours.PerIdle) / kb, 11, 2, "KB"},
		gate{"base RSS", float64(ours.RSS) / mb, 12, 10, "MB"})
	if ours.AllocsPer >= 0 {
		out = append(out, gate{"allocations per request", ours.AllocsPer, 0.05, 0.05, ""},
			gate{"allocations per streamed request", ours.StreamedAllocsPer, 1, 0.05, ""})
	}
	return out
}
