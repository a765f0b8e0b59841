package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// refreshPeriod is how often -w looks again.
const refreshPeriod = 2 * time.Second

func newStatus() *cobra.Command {
	var r reach
	var format string
	var watch bool
	cmd := &cobra.Command{
		Use: "status [-n NAMESPACE|-A]", Args: cobra.NoArgs,
		Short: "Annotated workloads: pods, where their Services lead, which instance of control decides, what is wrong",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			client, err := r.connect("status")
			if err != nil {
				return err
			}
			p := &statusPage{format: format, errs: cmd.ErrOrStderr()}
			return again(cmd.Context(), watch, func(ctx context.Context) error {
				rows, gaps, err := readStatus(ctx, client, &r)
				if err != nil {
					return err
				}
				return p.show(cmd.OutOrStdout(), rows, gaps, r.scope(), time.Now())
			})
		},
	}
	r.flags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on and print what has changed, every 2 s")
	return cmd
}

// again does something once or, to watch, until ctx ends. The first time must succeed; a failure later is one that may
// pass, and is returned when it does not for some tries.
func again(ctx context.Context, watch bool, once func(context.Context) error) error {
	const tries = 15
	failures := 0
	for first := true; ; first = false {
		err := once(ctx)
		switch {
		case ctx.Err() != nil && !first:
			return nil
		case err == nil:
			failures = 0
		case first || failures >= tries:
			return err
		default:
			failures++
		}
		if !watch {
			return nil
		}
		if pause(ctx, refreshPeriod); ctx.Err() != nil {
			return nil
		}
	}
}

// statusRow is one workload.
type statusRow struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Kind      workload.Kind `json:"kind"`
	Ready     int           `json:"ready"`
	Wanted    int           `json:"wanted"`
	Mode      string        `json:"mode"` // what the Service leads to: pods, activators, both while it moves, or kubernetes
	Service   string        `json:"service,omitempty"`
	Port      uint16        `json:"portOnActivators,omitempty"`
	DecidedBy string        `json:"decidedBy,omitempty"`
	Created   time.Time     `json:"created"`
	Problems  []problem     `json:"problems,omitempty"`
}

type problem struct {
	Reason workload.Reason `json:"reason"`
	Text   string          `json:"text"`
	Minor  bool            `json:"minor,omitempty"`
}

// readStatus reads everything for the table; gaps say which columns are not known, and why.
func readStatus(ctx context.Context, c apiServer, r *reach) (rows []statusRow, gaps []error, err error) {
	v, err := c.View(ctx, r.namespace, false)
	if err != nil {
		return nil, nil, err
	}
	control, err := c.Component(ctx, r.system, workload.StatefulSet, controlName)
	if err != nil {
		gaps = append(gaps, err)
	}
	if control == nil {
		control = &kube.Component{}
	}
	name, _ := agreed(control, "CONFIG_AUTOSCALER_NAME", defaultSettings)
	data, _, err := c.ConfigMap(ctx, r.system, name)
	gaps = append(gaps, err)
	base, _ := judgeSettings(name, data, true)
	name, _ = agreed(control, "ROUSE_PORTS_CONFIGMAP", defaultBook)
	data, _, err = c.ConfigMap(ctx, r.system, name)
	gaps = append(gaps, err)
	book, _ := portalloc.Decode(data)
	shares, err := c.Shares(ctx, r.system)
	gaps = append(gaps, err)
	text, _ := agreed(control, "ROUSE_BUCKETS", defaultBuckets)
	buckets, _ := strconv.Atoi(text)
	return statusRows(v, base, book, shares, buckets), gaps, nil
}

func statusRows(v *kube.View, base config.Autoscaler, book *portalloc.Book, shares kube.Shares, buckets int) []statusRow {
	rows := []statusRow{}
	for _, s := range v.Seen(base) {
		row := statusRow{Namespace: s.Namespace, Name: s.Name, Kind: s.Kind, Ready: s.Ready, Wanted: s.Replicas, Mode: modeOf(&s), Created: s.Created}
		if s.Service != nil {
			row.Service = s.Service.Name
		}
		for _, p := range s.Ports {
			if p.Scaled {
				row.Port, _ = book.Port(p.Holder)
			}
		}
		row.DecidedBy = shares.Holders[control.Buckets{Count: buckets}.Of(s.Revision())]
		for _, p := range s.Problems {
			row.Problems = append(row.Problems, problem(p))
		}
		rows = append(rows, row)
	}
	return rows
}

// modeOf says what a workload's Service leads to.
func modeOf(s *kube.Seen) string {
	n := map[sliceplan.Backend]int{}
	foreign := false
	for _, x := range s.Slices {
		if x.Ours {
			n[x.Backend] += len(x.Endpoints)
		} else {
			foreign = true
		}
	}
	var parts []string
	for _, b := range []sliceplan.Backend{sliceplan.Pods, sliceplan.Activators} {
		if n[b] > 0 {
			parts = append(parts, string(b))
		}
	}
	if len(parts) == 0 && foreign {
		return "kubernetes"
	}
	return strings.Join(parts, "+")
}

// statusPage prints the table, and after the first time the lines that have changed.
type statusPage struct {
	format string
	errs   io.Writer
	shown  map[string]string // lines by workload; nil before the first time
}

func (p *statusPage) show(w io.Writer, rows []statusRow, gaps []error, scope string, now time.Time) error {
	if p.format == asJSON {
		return p.showJSON(w, rows)
	}
	first := p.shown == nil
	if err := errors.Join(gaps...); first && err != nil {
		fmt.Fprintf(p.errs, "rouse: some columns are not known: %s\n", oneLine(err))
	}
	if first && len(rows) == 0 {
		fmt.Fprintf(p.errs, "no Deployment or StatefulSet is annotated in %s\n", scope)
	}
	before := p.shown
	p.shown = make(map[string]string, len(rows))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if first && len(rows) > 0 {
		fmt.Fprintln(t, "NAMESPACE\tNAME\tKIND\tREADY/WANTED\tMODE\tSERVICE\tPORT-ON-ACTIVATORS\tDECIDED-BY\tAGE\tREASON")
	}
	for _, r := range rows {
		id, ageless := string(r.Kind)+" "+r.Namespace+"/"+r.Name, r.line("")
		p.shown[id] = ageless
		if before[id] != ageless {
			fmt.Fprintln(t, r.line(age(now.Sub(r.Created))))
		}
	}
	return t.Flush()
}

// showJSON prints the list, again when it has changed.
func (p *statusPage) showJSON(w io.Writer, rows []statusRow) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil || p.shown["json"] == string(text) {
		return err
	}
	p.shown = map[string]string{"json": string(text)}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// line is a row of the table.
func (r *statusRow) line(age string) string {
	port := ""
	if r.Port != 0 {
		port = strconv.Itoa(int(r.Port))
	}
	reasons := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		reasons[i] = string(p.Reason)
	}
	fields := []string{r.Namespace, r.Name, string(r.Kind), fmt.Sprintf("%d/%d", r.Ready, r.Wanted), r.Mode, r.Service, port, r.DecidedBy, age, strings.Join(reasons, ",")}
	for i, f := range fields {
		fields[i] = cmp.Or(f, "-")
	}
	return strings.Join(fields, "\t")
}

// age says a duration as kubectl does, in its two largest units at most.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
