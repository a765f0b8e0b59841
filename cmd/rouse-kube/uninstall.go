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
	"github.com/rousehq/rouse/internal/workload"
)

// releaser gives the Services that control fills their selectors.
type releaser interface {
	Carried(ctx context.Context) ([]identity.Key, error)
	Release(ctx context.Context, namespace, name string, say func(string)) error
}

// locator says where Rouse is.
type locator interface {
	Bound(ctx context.Context, binding string) (namespaces []string, err error)
	Component(ctx context.Context, namespace string, kind workload.Kind, name string) (*kube.Component, error)
}

func newUninstall() *cobra.Command {
	o := deploy.Options{CreateNamespace: true, Webhook: true, Everything: true} // every object that may be there
	var r reach
	var timeout time.Duration
	var keep, offline bool
	cmd := &cobra.Command{
		Use:   "uninstall | kubectl delete --ignore-not-found -f -",
		Short: "Give every Service that control fills its selector, then print what is to be deleted, the reverse of install",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !offline {
				client, err := r.connect("uninstall")
				if err == nil {
					err = ours(cmd.Context(), client, o.Namespace)
				}
				if err == nil && !keep {
					err = releaseAll(cmd.Context(), client, timeout, cmd.ErrOrStderr())
				}
				if err != nil {
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
			if offline {
				if err := caution(cmd.OutOrStdout(), o.Namespace, all); err != nil {
					return err
				}
			}
			return deploy.Write(cmd.OutOrStdout(), all)
		},
	}
	r.clusterFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.Namespace, "namespace", "n", ownNamespace, "where everything lives")
	f.BoolVar(&o.CreateNamespace, "delete-namespace", false, "print the namespace too, which is deleted with everything in it; by default only for "+ownNamespace)
	f.DurationVar(&timeout, "timeout", 2*time.Minute, "how long one Service may take")
	f.BoolVar(&keep, "keep-services", false, "release no Service: their endpoints stay as they are, and nobody updates them")
	f.BoolVar(&offline, "offline", false, "release no Service and ask no cluster: nobody looks whether Rouse is in the namespace, and what is printed disarms it wherever it is")
	return cmd
}

// ownNamespace is nobody else's. Another one may hold more than Rouse.
const ownNamespace = "rouse-system"

// ours is nil when Rouse is in the namespace and nowhere else: ClusterRoles, their bindings and the webhook's configuration have
// one name in a cluster, so that whoever deletes them takes them from the installation that has them. One that was uninstalled
// halfway has its bindings still, or its StatefulSet.
func ours(ctx context.Context, c locator, namespace string) error {
	bound := false
	for _, binding := range []string{controlAccount, webhookAccount} {
		at, err := c.Bound(ctx, binding)
		if err != nil {
			return fmt.Errorf("which installation it is: %w; with --offline nobody looks", err)
		}
		bound = bound || len(at) > 0
		if i := slices.IndexFunc(at, func(other string) bool { return other != namespace }); i >= 0 {
			return fmt.Errorf("nothing is printed for deletion: ClusterRoleBinding %s is of the Rouse in namespace %s, and -n is %s. To uninstall that one, give -n %[2]s; "+
				"to delete what is in %[3]s alone, `kubectl delete all -n %[3]s -l app.kubernetes.io/part-of=rouse`", binding, at[i], namespace)
		}
	}
	if bound {
		return nil
	}
	control, err := c.Component(ctx, namespace, workload.StatefulSet, controlName)
	if err != nil {
		return fmt.Errorf("which installation it is: %w; with --offline nobody looks", err)
	}
	if control == nil {
		return fmt.Errorf("nothing is printed for deletion: Rouse is not in namespace %s, which has no StatefulSet %s, and nowhere else, since there is no ClusterRoleBinding %s; "+
			"--offline prints what may be left all the same", namespace, controlName, controlAccount)
	}
	return nil
}

// caution says at the head of what nobody has looked at which objects are not the namespace's.
func caution(w io.Writer, namespace string, all []deploy.Component) error {
	objects, err := parsed(all)
	if err != nil {
		return err
	}
	var wide []string
	for _, o := range objects {
		if o.Metadata.Namespace == "" && o.Kind != "Namespace" {
			wide = append(wide, o.Kind+" "+o.Metadata.Name)
		}
	}
	_, err = fmt.Fprintf(w, "# CAUTION: nobody has looked whether Rouse is in namespace %s. Wherever in the cluster it is, it needs the following, which\n"+
		"# belong to no namespace, and stops when they are deleted:\n#   %s\n", namespace, strings.Join(wide, "\n#   "))
	return err
}

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
