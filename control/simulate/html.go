package simulate

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// The size of a plot, in the units of its view box.
const (
	plotWidth  = 720
	plotHeight = 180
	plotLeft   = 56
	plotBottom = 22
)

// colours are those of the reports, in order; the palette stays apart for colour-blind eyes.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// series is one line of a plot.
type series struct {
	Label, Colour, Points string
	Dashed                bool
}

// tick is a label at an axis.
type tick struct {
	Pos  float64
	Text string
}

// plot is one figure, ready to be drawn.
type plot struct {
	Title  string
	Series []series
	X, Y   []tick
}

// curve is a line before it is scaled: a value for each row.
type curve struct {
	label, colour string
	dashed        bool
	values        []float64
}

// WriteHTML writes the reports as one self-contained page: the totals side by side and plots over time.
func WriteHTML(w io.Writer, reports ...Report) error {
	type line struct {
		Name   string
		Values []string
	}
	page := struct {
		Labels  []string
		Figures []line
		Plots   []plot
	}{}
	for i := range reports {
		page.Labels = append(page.Labels, reports[i].Label)
	}
	for _, f := range figures {
		l := line{Name: f.name}
		for i := range reports {
			l.Values = append(l.Values, f.of(&reports[i].Total))
		}
		page.Figures = append(page.Figures, l)
	}
	page.Plots = plots(reports)
	return pageTemplate.Execute(w, page)
}

func plots(reports []Report) []plot {
	all := func(title string, of func(*Row, Seconds) float64) plot {
		var curves []curve
		for i := range reports {
			curves = append(curves, curveOfRows(&reports[i], reports[i].Label, i, false, of))
		}
		return draw(title, reports[0].Every, curves)
	}
	pods := func() plot {
		var curves []curve
		for i := range reports {
			r := &reports[i]
			curves = append(curves,
				curveOfRows(r, r.Label+": wanted", i, true, func(row *Row, _ Seconds) float64 { return float64(row.Desired) }),
				curveOfRows(r, r.Label+": existing", i, false, func(row *Row, _ Seconds) float64 { return row.Pods }))
		}
		return draw("Pods", reports[0].Every, curves)
	}
	return []plot{
		all("Requests per second", func(r *Row, every Seconds) float64 { return float64(r.Arrived) / float64(every) }),
		pods(),
		all("Queue, most", func(r *Row, _ Seconds) float64 { return float64(r.QueueMost) }),
		all("Latency p99, seconds", func(r *Row, _ Seconds) float64 { return float64(r.Latency.P99) }),
		all("Latency p50, seconds", func(r *Row, _ Seconds) float64 { return float64(r.Latency.P50) }),
		all("Cold starts", func(r *Row, _ Seconds) float64 { return float64(r.ColdStarts) }),
	}
}

func curveOfRows(r *Report, label string, i int, dashed bool, of func(*Row, Seconds) float64) curve {
	c := curve{label: label, colour: colours[i%len(colours)], dashed: dashed}
	for j := range r.Rows {
		c.values = append(c.values, of(&r.Rows[j], r.Every))
	}
	return c
}

// draw scales the curves to one plot.
func draw(title string, every Seconds, curves []curve) plot {
	top, rows := 0.0, 1
	for _, c := range curves {
		rows = max(rows, len(c.values))
		for _, v := range c.values {
			top = max(top, v)
		}
	}
	top = roundUp(top)
	x := func(row int) float64 {
		return plotLeft + float64(row)/float64(max(rows-1, 1))*(plotWidth-plotLeft-8)
	}
	y := func(v float64) float64 { return 8 + (1-v/top)*(plotHeight-plotBottom-8) }
	p := plot{Title: title}
	for _, c := range curves {
		var b strings.Builder
		for i, v := range c.values {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(i), y(v))
		}
		p.Series = append(p.Series, series{Label: c.label, Colour: c.colour, Points: b.String(), Dashed: c.dashed})
	}
	for i := range 5 {
		row := i * (rows - 1) / 4
		p.X = append(p.X, tick{x(row), clock(Seconds(row) * every)})
	}
	for _, part := range []float64{0, 0.5, 1} {
		p.Y = append(p.Y, tick{y(part * top), fmt.Sprintf("%.3g", part*top)})
	}
	return p
}

// roundUp returns the next 1, 2 or 5 times a power of ten.
func roundUp(v float64) float64 {
	for unit := 1e-6; unit < 1e12; unit *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if v <= step*unit {
				return step * unit
			}
		}
	}
	return v
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>rouse simulate</title><style>
body{font:14px system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:right}td:first-child{text-align:left}
tr:nth-child(even){background:#f4f4f4}svg{width:100%;height:auto}h2{font-size:1em;margin:1.5em 0 .2em}
text{font-size:11px;fill:#555}
</style></head><body><h1>rouse simulate</h1>
<table><tr><th></th>{{range .Labels}}<th>{{.}}</th>{{end}}</tr>
{{range .Figures}}<tr><td>{{.Name}}</td>{{range .Values}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
{{range .Plots}}<h2>{{.Title}}</h2>
<svg viewBox="0 0 720 180" role="img" aria-label="{{.Title}}">
{{range .Y}}<line x1="56" x2="712" y1="{{.Pos}}" y2="{{.Pos}}" stroke="#ddd"/><text x="50" y="{{.Pos}}" text-anchor="end" dominant-baseline="middle">{{.Text}}</text>
{{end}}{{range .X}}<text x="{{.Pos}}" y="175" text-anchor="middle">{{.Text}}</text>
{{end}}{{range .Series}}<polyline fill="none" stroke="{{.Colour}}" stroke-width="1.5"{{if .Dashed}} stroke-dasharray="4 3"{{end}} points="{{.Points}}"><title>{{.Label}}</title></polyline>
{{end}}</svg>
<p>{{range .Series}}<span style="color:{{.Colour}}">{{if .Dashed}}┄{{else}}━{{end}} {{.Label}}</span> &nbsp; {{end}}</p>
{{end}}</body></html>
`))
