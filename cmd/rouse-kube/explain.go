package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/workload"
)

func newExplain() *cobra.Command {
	var r reach
	var format string
	cmd := &cobra.Command{
		Use: "explain [-n NAMESPACE] [NAME]", Args: cobra.MaximumNArgs(1),
		Short: "Why a workload has as many pods as it has, as the instance of control says that decides about it",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			client, err := r.connect("explain")
			if err != nil {
				return err
			}
			all, err := explanations(cmd.Context(), client, r.system, r.namespace, name)
			if err != nil {
				return err
			}
			if len(all) == 0 && name != "" {
				return unexplained(cmd.Context(), client, &r, name)
			}
			return showExplained(cmd.OutOrStdout(), format, all)
		},
	}
	r.flags(cmd)
	outputFlag(cmd, &format)
	return cmd
}

func showExplained(w io.Writer, format string, all []explained) error {
	if format == asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if all == nil {
			all = []explained{}
		}
		return enc.Encode(all)
	}
	for _, e := range all {
		e.WriteText(w)
		fmt.Fprintf(w, "  decided    by %s: %s\n", e.DecidedBy, e.Reason)
	}
	return nil
}

// unexplained says why control knows nothing of a workload.
func unexplained(ctx context.Context, c apiServer, r *reach, name string) error {
	v, err := c.View(ctx, r.namespace, false)
	if err != nil {
		return err
	}
	for _, s := range v.Seen(config.DefaultAutoscaler()) {
		if s.Name != name {
			continue
		}
		var texts []string
		for _, p := range s.Problems {
			texts = append(texts, string(p.Reason)+": "+p.Text)
		}
		if len(texts) == 0 {
			return fmt.Errorf("no instance of control decides about %s %s/%s at the moment: see `rouse check`", s.Kind, s.Namespace, name)
		}
		return fmt.Errorf("%s %s/%s is not in control: %s", s.Kind, s.Namespace, name, strings.Join(texts, "; "))
	}
	return fmt.Errorf("no annotated %s or %s has the name %s in %s: see `rouse status`", workload.Deployment, workload.StatefulSet, name, r.scope())
}
