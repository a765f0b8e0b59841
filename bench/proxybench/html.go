//go:build linux

package proxybench

import (
	"fmt"
	"html/template"
	"io"
	"time"
)

// bar is one bar of a plot.
type bar struct {
	Label, Value string
	Percent      float64 // of the plot's width
	Class        string
	Y            int // of its top
}

// plot is one scenario or memory figure: a bar per contender.
type plot struct {
	Title  string
	Bars   []bar
	Height int
}

const barPitch = 22

func newPlot(title string, s summary, unit string, value func(contender string) (float64, bool)) plot {
	p := plot{Title: title}
	top := 0.0
	for _, c := range s.Contenders {
		if v, ok := value(c.Contender); ok {
			top = max(top, v)
		}
	}
	for _, c := range s.Contenders {
		v, ok := value(c.Contender)
		if !ok {
			continue
		}
		b := bar{Label: c.Contender, Value: fmt.Sprintf("%.4g %s", v, unit), Y: len(p.Bars) * barPitch, Class: c.Contender}
		if top > 0 {
			b.Percent = 55 * v / top // room for the labels on both sides
		}
		p.Bars = append(p.Bars, b)
	}
	p.Height = len(p.Bars) * barPitch
	return p
}

// section is a heading with its plots.
type section struct {
	Title, Text string
	Plots       []plot
}

func sections(s summary) []section {
	grid := func(unit string, get func(cell) float64) []plot {
		var plots []plot
		for _, n := range s.Scenarios {
			plots = append(plots, newPlot(n, s, unit, func(c string) (float64, bool) {
				x, ok := s.cell(c, n)
				return get(x), ok
			}))
		}
		return plots
	}
	mem := func(title, unit string, scale float64, get func(Row) int64) plot {
		return newPlot(title, s, unit, func(c string) (float64, bool) {
			r, ok := s.contender(c)
			return float64(get(r)) / scale, ok && r.RSS > 0
		})
	}
	return []section{
		{"CPU per request", "µs on a core, median of interleaved rounds. Less is better.", grid("µs", func(c cell) float64 { return c.CPU })},
		{"Median latency", "µs. Open loops count from the intended send.", grid("µs", func(c cell) float64 { return c.P50 })},
		{"99th percentile", "µs.", grid("µs", func(c cell) float64 { return c.P99 })},
		{"Requests per second", "One core for the proxy; the load generator and the backend share another.", grid("/s", func(c cell) float64 { return c.RPS })},
		{"User-space memory", "Heaps and stacks of the process; base RSS holds its program text too.", []plot{
			mem("base RSS", "MB", 1e6, func(r Row) int64 { return r.RSS }),
			mem("per parked request", "KB", 1e3, func(r Row) int64 { return r.PerParked }),
			mem("per idle connection", "KB", 1e3, func(r Row) int64 { return r.PerIdle }),
		}},
	}
}

// writeHTML writes one page that needs nothing else.
func writeHTML(w io.Writer, s summary, when time.Time) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(w, map[string]any{
		"Contenders": s.Contenders, "Sections": sections(s), "Gates": s.gates(), "When": when.UTC().Format(time.DateTime),
	})
}

const pageText = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Proxy benchmark</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1c2733, #dde6ee); --soft: light-dark(#5b6b7b, #93a4b4); --other: light-dark(#9fb1c2, #4d6275); --own: light-dark(#d4662b, #f08b4f); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 0 } h3 { font-size: .95rem; margin: .9rem 0 .2rem }
p, td, th { color: var(--soft) } p { margin: .1rem 0 } td, th { text-align: left; padding: .1rem 1.2rem .1rem 0; font-weight: normal }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 0 2rem }
svg { width: 100%; display: block } text { fill: var(--ink); font-size: 12px } rect { fill: var(--other) } rect.rouse { fill: var(--own) }
.MISSED { color: var(--own); font-weight: 600 }
</style>
<h1>Proxies in front of one backend</h1>
<p>{{.When}} UTC. One core for the proxy, one for the load generator and the backend.</p>
<table>{{range .Contenders}}<tr><td>{{.Contender}}<td>{{.Version}}<td>sha256 {{.Binary}}{{end}}</table>
{{range .Sections}}<h2>{{.Title}}</h2><p>{{.Text}}</p><div class="plots">{{range .Plots}}
<div><h3>{{.Title}}</h3><svg height="{{.Height}}" role="img" aria-label="{{.Title}}">{{range .Bars}}
<svg y="{{.Y}}" height="20"><text x="0" y="14">{{.Label}}</text><rect class="{{.Class}}" x="25%" y="3" height="14" width="{{printf "%.2f" .Percent}}%" rx="2"/>
<svg x="{{printf "%.2f" .Percent}}%"><text x="26%" y="14">{{.Value}}</text></svg></svg>{{end}}</svg></div>{{end}}</div>
{{end}}{{if .Gates}}<h2>Bounds</h2><table><tr><th>metric<th>got<th>gate<th>stretch<th>{{range .Gates}}<tr><td>{{.Metric}}<td>{{printf "%.2f" .Got}}{{.Unit}}<td>{{.Gate}}{{.Unit}}<td>{{.Stretch}}{{.Unit}}<td class="{{.Verdict}}">{{.Verdict}}{{end}}</table>{{end}}
</html>
`
