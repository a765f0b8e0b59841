package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/kube"
)

// mover moves a Service between its selector and control.
type mover func(c *kube.Client, ctx context.Context, namespace, name string, say func(string)) error

func newAdopt() *cobra.Command {
	return newMove("adopt SERVICE", "Take a Service over from its selector: control fills its endpoints from now on, no request is lost", (*kube.Client).Adopt)
}

func newRelease() *cobra.Command {
	return newMove("release SERVICE", "Give a Service that control fills its selector: one pod at least stays, no request is lost", (*kube.Client).Release)
}

func newMove(use, short string, move mover) *cobra.Command {
	var r reach
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := r.connect(cmd.Name())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			say := func(step string) { fmt.Fprintln(cmd.OutOrStdout(), step) }
			if err := move(client, ctx, r.namespace, args[0], say); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of Service %s is done\n", cmd.Name(), args[0])
			return nil
		},
	}
	r.clusterFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&r.namespace, "namespace", "n", "", "namespace of the Service (default that of the kubeconfig's context)")
	f.DurationVar(&timeout, "timeout", time.Minute, "how long the cluster may take to follow")
	return cmd
}
