//go:build linux

package proxybench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeReport prints a run for people.
func writeReport(w io.Writer, s summary) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, part := range []func(io.Writer, summary){writeContenders, writeCPU, writeRatios, writeRates, writeMemory, writeErrors, writeGates} {
		part(t, s)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func writeContenders(w io.Writer, s summary) {
	for _, c := range s.Contenders {
		fmt.Fprintf(w, "%s\t%s\tsha256 %s\t\n", c.Contender, c.Version, c.Binary)
	}
}

func writeHeader(w io.Writer, title string, s summary) {
	fmt.Fprintf(w, "\n%s\n", title)
	for _, n := range s.Scenarios {
		fmt.Fprintf(w, "\t%s", n)
	}
	fmt.Fprint(w, "\t\n")
}

// writeGrid prints one line per contender and one column per scenario; show "" for what was not measured.
func writeGrid(w io.Writer, title string, s summary, show func(contender, scenario string) string) {
	writeHeader(w, title, s)
	for _, c := range s.Contenders {
		fmt.Fprint(w, c.Contender)
		for _, n := range s.Scenarios {
			fmt.Fprintf(w, "\t%s", show(c.Contender, n))
		}
		fmt.Fprint(w, "\t\n")
	}
}

func writeCPU(w io.Writer, s summary) {
	writeGrid(w, "CPU µs per request, median of rounds (minimum)", s, func(c, n string) string {
		x, ok := s.cell(c, n)
		if !ok {
			return "-"
		}
		return fmt.Sprintf("%.1f (%.1f)", x.CPU, x.CPUMin)
	})
}

func writeRatios(w io.Writer, s summary) {
	for _, rival := range []string{"knative", "haproxy"} {
		if _, ok := s.contender(rival); !ok {
			continue
		}
		writeGrid(w, "CPU per request, ratio to "+rival, s, func(c, n string) string {
			x, ok := s.cell(c, n)
			base, ok2 := s.cell(rival, n)
			if !ok || !ok2 || base.CPU == 0 {
				return "-"
			}
			return fmt.Sprintf("%.2f×", x.CPU/base.CPU)
		})
	}
}

func writeRates(w io.Writer, s summary) {
	writeGrid(w, "requests per second · p50 µs · p99 µs (· p50 added to the backend's own)", s, func(c, n string) string {
		x, ok := s.cell(c, n)
		if !ok {
			return "-"
		}
		text := fmt.Sprintf("%.0f · %.0f · %.0f", x.RPS, x.P50, x.P99)
		if x.rounds[0].DirectP50 > 0 {
			text += fmt.Sprintf(" · %+.0f", x.AddedP50)
		}
		return text
	})
}

func writeMemory(w io.Writer, s summary) {
	fmt.Fprint(w, "\nuser-space memory\n\tbase RSS MB\tKB per parked request\tKB per idle connection\tallocations per request\tper streamed one\t\n")
	for _, c := range s.Contenders {
		if c.RSS == 0 {
			continue
		}
		allocs := "-\t-"
		if c.AllocsPer >= 0 {
			allocs = fmt.Sprintf("%.2f\t%.2f", c.AllocsPer, c.StreamedAllocsPer)
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%s\t\n", c.Contender, float64(c.RSS)/1e6, float64(c.PerParked)/1e3, float64(c.PerIdle)/1e3, allocs)
	}
}

func writeErrors(w io.Writer, s summary) {
	title := "\nerrors\n"
	for _, c := range s.Contenders {
		for _, n := range s.Scenarios {
			if x, ok := s.cell(c.Contender, n); ok && x.Errors > 0 {
				fmt.Fprintf(w, "%s%s\t%s\t%d\t%s\t\n", title, c.Contender, n, x.Errors, x.FirstError)
				title = ""
			}
		}
	}
}

func writeGates(w io.Writer, s summary) {
	gates := s.gates()
	if len(gates) == 0 {
		return
	}
	fmt.Fprint(w, "\nours against its bounds\n\tgot\tgate\tstretch\t\t\n")
	for _, g := range gates {
		fmt.Fprintf(w, "%s\t%.2f%s\t%.4g%s\t%.4g%s\t%s\t\n", g.Metric, g.Got, g.Unit, g.Gate, g.Unit, g.Stretch, g.Unit, g.Verdict())
	}
}
