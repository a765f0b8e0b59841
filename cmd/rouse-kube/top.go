package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newTop() *cobra.Command {
	var r reach
	var format string
	var watch bool
	cmd := &cobra.Command{
		Use: "top [-n NAMESPACE|-A]", Args: cobra.NoArgs,
		Short: "Live load of annotated workloads: requests in flight, per second and parked, pods, target",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			client, err := r.connect("top")
			if err != nil {
				return err
			}
			first := true
			return again(cmd.Context(), watch, func(ctx context.Context) error {
				all, err := explanations(ctx, client, r.system, r.namespace, "")
				if err != nil {
					return err
				}
				if !first && format == asText {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				first = false
				if len(all) == 0 && format == asText {
					fmt.Fprintf(cmd.ErrOrStderr(), "no workload is in control in %s: see `rouse status`\n", r.scope())
					return nil
				}
				return showTop(cmd.OutOrStdout(), format, all)
			})
		},
	}
	r.flags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on and print everything again, every 2 s")
	return cmd
}

// topRow is one workload. Stable and Target are of Metric: the one that asked for most pods.
type topRow struct {
	Namespace   string  `json:"namespace"`
	Name        string  `json:"name"`
	Concurrency float64 `json:"concurrency"` // requests in flight
	Rate        float64 `json:"requestsPerSecond"`
	Parked      float64 `json:"parked"` // requests that wait for a slot
	Ready       int     `json:"ready"`
	Wanted      int     `json:"wanted"`
	Metric      string  `json:"metric,omitempty"`
	Stable      float64 `json:"stable"` // over the stable window, of all pods
	Panic       float64 `json:"panic"`  // over the panic window
	Target      float64 `json:"target"` // per pod
	Panicking   bool    `json:"panicking"`
	DecidedBy   string  `json:"decidedBy"`
}

func topRows(all []explained) []topRow {
	rows := []topRow{}
	for _, e := range all {
		row := topRow{
			Namespace: e.Namespace, Name: e.Revision, Concurrency: e.InFlight, Rate: e.Rate, Parked: e.Waiting,
			Ready: e.Pods.Ready, Wanted: e.Pods.Requested, Panicking: e.Explanation.Panic, DecidedBy: e.DecidedBy,
		}
		for i, o := range e.Observed {
			if o.Metric == e.Winner || i == 0 {
				row.Metric, row.Stable, row.Panic, row.Target = o.Metric, o.Stable, o.Panic, o.Target
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func showTop(w io.Writer, format string, all []explained) error {
	rows := topRows(all)
	if format == asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tNAME\tCONCURRENCY\tREQUESTS/S\tPARKED\tREADY/WANTED\tMETRIC\tSTABLE\tPANIC\tTARGET/POD")
	for _, r := range rows {
		metric, target := r.Metric, figure(r.Target)
		if metric == "" {
			metric, target = "-", "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\t%s\n", r.Namespace, r.Name, figure(r.Concurrency), figure(r.Rate), figure(r.Parked),
			r.Ready, r.Wanted, metric, figure(r.Stable), figure(r.Panic), target)
	}
	return t.Flush()
}

// figure says a number with one digit behind the point at most.
func figure(f float64) string {
	s := strconv.FormatFloat(f, 'f', 1, 64)
	if n := len(s); s[n-2:] == ".0" {
		return s[:n-2]
	}
	return s
}
