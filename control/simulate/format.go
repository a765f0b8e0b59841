package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteJSON writes the reports as one JSON document: an array in the order of the arguments.
func WriteJSON(w io.Writer, reports ...Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(reports)
}

// WriteTable writes the reports for people: first what they come to, side by side, then the rows of each.
func WriteTable(w io.Writer, reports ...Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	writeTotals(tw, reports)
	for i := range reports {
		fmt.Fprintf(tw, "\n%s\n", reports[i].Label)
		writeRows(tw, &reports[i])
	}
	return tw.Flush()
}

// figure is one line of the totals.
type figure struct {
	name string
	of   func(*Totals) string
}

func count(f func(*Totals) int) func(*Totals) string {
	return func(t *Totals) string { return fmt.Sprint(f(t)) }
}

func span(f func(*Totals) Seconds) func(*Totals) string {
	return func(t *Totals) string { return f(t).String() }
}

var figures = []figure{
	{"requests", count(func(t *Totals) int { return t.Requests })},
	{"answered", count(func(t *Totals) int { return t.Answered })},
	{"rejected", count(func(t *Totals) int { return t.Rejected })},
	{"expired", count(func(t *Totals) int { return t.Expired })},
	{"latency p50", span(func(t *Totals) Seconds { return t.Latency.P50 })},
	{"latency p95", span(func(t *Totals) Seconds { return t.Latency.P95 })},
	{"latency p99", span(func(t *Totals) Seconds { return t.Latency.P99 })},
	{"latency max", span(func(t *Totals) Seconds { return t.Latency.Max })},
	{"pod-seconds", func(t *Totals) string { return fmt.Sprintf("%.0f", t.PodSeconds) }},
	{"pods on average", func(t *Totals) string { return fmt.Sprintf("%.2f", t.PodSeconds/max(t.Seconds, 1e-9)) }},
	{"pods at most", count(func(t *Totals) int { return t.PodsMost })},
	{"pods started", count(func(t *Totals) int { return t.PodsStarted })},
	{"of which answered", count(func(t *Totals) int { return t.PodsUsed })},
	{"cold starts", count(func(t *Totals) int { return t.ColdStarts })},
	{"queue at most", count(func(t *Totals) int { return t.QueueMost })},
	{"panics", count(func(t *Totals) int { return t.Panics })},
}

func writeTotals(w io.Writer, reports []Report) {
	fmt.Fprint(w, "\t")
	for i := range reports {
		fmt.Fprintf(w, "%s\t", reports[i].Label)
	}
	fmt.Fprintln(w)
	for _, f := range figures {
		fmt.Fprintf(w, "%s\t", f.name)
		for i := range reports {
			fmt.Fprintf(w, "%s\t", f.of(&reports[i].Total))
		}
		fmt.Fprintln(w)
	}
	for i := range reports {
		if m := reports[i].Recorded; m != nil {
			fmt.Fprintf(w, "\n%s against the recording: %d decisions, at most %d pods apart (at %v), %d more than one\n",
				reports[i].Label, m.Decisions, m.Worst, m.WorstAt, m.Apart)
		}
	}
}

func writeRows(w io.Writer, r *Report) {
	fmt.Fprintln(w, "at\tarrived\tanswered\tfailed\twanted\tready\tpods\tqueue\tp50\tp95\tp99\tcold starts\t")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.2f\t%d\t%v\t%v\t%v\t%d\t\n", clock(row.At), row.Arrived, row.Answered,
			row.Failed, row.Desired, row.Ready, row.Pods, row.QueueMost, row.Latency.P50, row.Latency.P95, row.Latency.P99,
			row.ColdStarts)
	}
}

// String returns the time with three digits, "-" for none.
func (s Seconds) String() string {
	d := time.Duration(float64(s) * 1e9)
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// clock writes a time from the start as hours, minutes and seconds.
func clock(s Seconds) string {
	t := int(s)
	return fmt.Sprintf("%d:%02d:%02d", t/3600, t/60%60, t%60)
}
