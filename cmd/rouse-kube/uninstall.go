package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/deploy"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
)

// releaser gives the Services that control fills their selectors.
type releaser interface {
	Carried(ctx context.Context) ([]identity.Key, error)
	Release(ctx context.Context, namespace, name string, say func(string)) error
}

func newUninstall() *cobra.Command {
	o := deploy.Options{CreateNamespace: true, Webhook: true, Everything: true} // every object that may be there
	var r reach
	var timeout time.Duration
	var keep bool
	cmd := &cobra.Command{
		Use:   "uninstall | kubectl delete --ignore-not-found -f -",
		Short: "Give every Service that control fills its selector, then print what is to be deleted, the reverse of install",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !keep {
				client, err := r.connect("uninstall")
				if err != nil {
					return err
				}
				if err := releaseAll(cmd.Context(), client, timeout, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			if !cmd.Flags().Changed("delete-namespace") {
				o.CreateNamespace = o.Namespace == ownNamespace
			}
			all, err := deploy.Render(o)
			if err != nil {
				return err
			}
			slices.Reverse(all)
			if !o.CreateNamespace {
				all = append(all, made(o.Namespace))
			}
			return deploy.Write(cmd.OutOrStdout(), all)
		},
	}
	r.clusterFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.Namespace, "namespace", "n", ownNamespace, "where everything lives")
	f.BoolVar(&o.CreateNamespace, "delete-namespace", false, "print the namespace too, which is deleted with everything in it; by default only for "+ownNamespace)
	f.DurationVar(&timeout, "timeout", 2*time.Minute, "how long one Service may take")
	f.BoolVar(&keep, "keep-services", false, "release no Service and talk to no cluster: their endpoints stay as they are, and nobody updates them")
	return cmd
}

// ownNamespace is nobody else's. Another one may hold more than Rouse.
const ownNamespace = "rouse-system"

// made is what control and the webhook made for themselves in a namespace that stays. Control's Leases stay with it: their
// epochs outrank those that activators have heard of, should control come back.
func made(namespace string) deploy.Component {
	var b strings.Builder
	for i, o := range []struct{ kind, name string }{{"ConfigMap", defaultBook}, {"Secret", defaultToken}, {"Secret", webhookCerts}} {
		if i > 0 {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "apiVersion: v1\nkind: %s\nmetadata: {name: %s, namespace: %s}\n", o.kind, o.name, namespace)
	}
	return deploy.Component{Name: "made.yaml", YAML: []byte(b.String())}
}

// releaseAll releases one Service after the other, each with its own time, and goes on after a failure: what can have its
// selector gets it. It returns when clients have left the activators: those share the slots of pods with a limit, which an
// activator cannot get once control is gone.
func releaseAll(ctx context.Context, c releaser, timeout time.Duration, out io.Writer) error {
	list, cancel := context.WithTimeout(ctx, timeout)
	services, err := c.Carried(list)
	cancel()
	if err != nil {
		return fmt.Errorf("which Services control fills: %w; with --keep-services none is released", err)
	}
	var failed []error
	for _, s := range services {
		one, cancel := context.WithTimeout(ctx, timeout)
		err := c.Release(one, s.Namespace, s.Name, func(text string) { fmt.Fprintf(out, "%s: %s\n", s, text) })
		cancel()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(out, "%s has its selector; Kubernetes fills its endpoints\n", s)
	}
	if len(failed) > 0 {
		return fmt.Errorf("nothing is printed for deletion, since %d of %d Services could not be released: %w", len(failed), len(services), errors.Join(failed...))
	}
	if len(services) > 0 {
		fmt.Fprintf(out, "activators serve the connections that they have for another %s\n", kube.Handover)
		pause(ctx, kube.Handover)
	}
	return ctx.Err()
}
