package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rousehq/rouse/deploy"
	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/jsontext"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/internal/render"
)

// newManifests are the commands that turn YAML into YAML. Of them uninstall alone talks to a cluster.
func newManifests() []*cobra.Command {
	return []*cobra.Command{newInject(), newRender(), newInstall()}
}

// defaultImage is where the sidecar comes from when nobody says.
const defaultImage = "rouse/queueproxy:latest"

func sidecarFlags(cmd *cobra.Command, o *inject.Options) {
	f := cmd.Flags()
	f.StringVar(&o.Image, "image", defaultImage, "image of the queue-proxy")
	f.StringVar(&o.StatsURL, "stats-url", "", "where sidecars push their reports, ws://HOST:PORT; empty lets control fetch them")
	f.StringVar(&o.TokenAudience, "token-audience", "", "mount a service account token for this audience and send it with the reports")
	sizeFlags(f, &o.Sizes)
}

// sizeFlags are what a sidecar asks for.
func sizeFlags(f *pflag.FlagSet, s *inject.Sizes) {
	for _, size := range s.Each() {
		what, which, _ := strings.Cut(size.Name, "-")
		f.StringVar(size.Text, "sidecar-"+size.Name, "", "default "+which+" of "+what+" of the queue-proxy, such as 50m or 64Mi; annotations win")
	}
}

func newInject() *cobra.Command {
	var o inject.Options
	var files []string
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Print manifests with the queue-proxy in the pods of opted-in Deployments, StatefulSets and Pods",
		Args:  filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return eachSource(cmd, files, func(s manifest.Source) ([]byte, error) {
				r, err := inject.Manifest(s.Name, s.Data, o)
				if err != nil {
					return nil, err
				}
				return r.YAML, sayInjected(cmd.ErrOrStderr(), r)
			})
		},
	}
	fileFlag(cmd, &files)
	sidecarFlags(cmd, &o)
	cmd.Flags().BoolVar(&o.All, "all", false, "workloads that are not opted in, too, unless they are opted out")
	return cmd
}

// sayInjected tells people what became of their file. A fault that is not minor is an error: half a file is no output.
func sayInjected(stderr io.Writer, r inject.Result) error {
	var severe inject.Faults
	for _, f := range r.Faults {
		if f.Minor {
			fmt.Fprintln(stderr, f.Error())
			continue
		}
		severe = append(severe, f)
	}
	if len(severe) > 0 {
		return severe
	}
	for _, name := range r.Injected {
		fmt.Fprintln(stderr, name, "has the queue-proxy")
	}
	for _, name := range r.TakenOut {
		fmt.Fprintln(stderr, name, "has no queue-proxy any more: it is opted out")
	}
	for _, name := range r.Left {
		fmt.Fprintln(stderr, name, "is left as it is: it is not opted in")
	}
	return nil
}

func fileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "manifest: a file, a directory (its own *.yaml, *.yml and *.json), or - for standard input (repeatable)")
}

// filesByFlag refuses arguments: most are manifests whose -f was forgotten.
func filesByFlag(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q: manifests are given by --file", args[0])
}

// eachSource prints what becomes of every file, when nothing is wrong with any.
func eachSource(cmd *cobra.Command, files []string, become func(manifest.Source) ([]byte, error)) error {
	if len(files) == 0 {
		return cmdline.Misusef("--file is missing: name a manifest, or - for standard input")
	}
	sources, err := opened(cmd, files)
	if err != nil {
		return err
	}
	var out [][]byte
	var faults []error
	for _, s := range sources {
		text, err := become(s)
		out, faults = append(out, text), append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(joined(sources, out))
	return err
}

// joined puts the files behind one another: as a stream of JSON when all that went in was JSON, else as documents of YAML.
func joined(sources []manifest.Source, out [][]byte) []byte {
	if len(out) == 1 && jsontext.Single(out[0]) {
		return out[0]
	}
	all := withMarkers(out)
	json := !slices.ContainsFunc(sources, func(s manifest.Source) bool { return !s.Stream && !jsontext.Single(s.Data) })
	if stream, ok := jsontext.Stream(all); ok && json {
		return stream
	}
	return ownLines(all)
}

func withMarkers(out [][]byte) (all []byte) {
	for i, text := range out {
		if i > 0 {
			if n := len(all); n > 0 && all[n-1] != '\n' {
				all = append(all, '\n') // behind the last line the marker would be none
			}
			all = append(all, "---\n"...)
		}
		all = append(all, text...)
	}
	return all
}

// ownLines puts markers before JSON on lines of their own: kubectl takes no others for markers. When JSON is the first of several
// documents there is one before it, too: what begins with a brace kubectl takes for a stream of JSON.
func ownLines(documents []byte) []byte {
	out := bytes.ReplaceAll(documents, []byte("\n--- {"), []byte("\n---\n{"))
	if rest, ok := bytes.CutPrefix(out, []byte("--- {")); ok {
		return append([]byte("---\n{"), rest...)
	}
	if bytes.HasPrefix(bytes.TrimSpace(out), []byte("{")) && bytes.Contains(out, []byte("\n---\n")) {
		return append([]byte("---\n"), out...)
	}
	return out
}

// opened reads manifests, and warns of what is not read in directories.
func opened(cmd *cobra.Command, files []string) ([]manifest.Source, error) {
	for _, w := range manifest.PassedOver(files...) {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	return manifest.Open(cmd.InOrStdin(), files...)
}

func newRender() *cobra.Command {
	var o render.Options
	var sidecar inject.Options
	var files []string
	var bare, strict bool
	cmd := &cobra.Command{
		Use:   "render -f FILE",
		Short: "Print Knative Services as Deployments and Services for a cluster without Knative",
		Args:  filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !bare {
				o.Sidecar = &sidecar
			}
			return eachSource(cmd, files, func(s manifest.Source) ([]byte, error) {
				set, err := judged(cmd.ErrOrStderr(), s, o.Namespace, strict)
				if err != nil {
					return nil, err
				}
				for i := range set.Services {
					for _, w := range set.Services[i].Samples() {
						fmt.Fprintln(cmd.ErrOrStderr(), w)
					}
				}
				r, err := render.File(s.Name, s.Data, o)
				for _, w := range r.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
				}
				return r.YAML, err
			})
		},
	}
	fileFlag(cmd, &files)
	sidecarFlags(cmd, &sidecar)
	f := cmd.Flags()
	f.BoolVar(&strict, "strict", false, "refuse unknown fields and annotations instead of warning")
	f.BoolVar(&bare, "no-sidecar", false, "leave the queue-proxy to the webhook")
	f.StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of services that name none")
	f.StringVar(&o.SystemNamespace, "system-namespace", "rouse-system", "namespace where control runs")
	f.BoolVar(&o.NetworkPolicy, "network-policy", false, "print NetworkPolicies that let clients reach queue-proxies only")
	f.StringVar(&o.MetricsNamespace, "metrics-namespace", "", "namespace of Prometheus, which those NetworkPolicies let reach the sidecars' metrics")
	f.StringVar(&o.Gateway, "gateway", "", "[NAMESPACE/]NAME of the Gateway to attach HTTPRoutes to; services that divide traffic need one")
	f.StringVar(&o.Domain, "domain", "example.com", "public domain of the services' hosts")
	return cmd
}

// judged holds Knative's services to Knative's rules, and warns of what nothing reads. Kinds and fields that
// `rouse up` does not run are no faults here, and neither is a file without services.
func judged(stderr io.Writer, s manifest.Source, namespace string, strict bool) (*manifest.Set, error) {
	set, found := manifest.Load([]manifest.Source{s}, manifest.Options{Namespace: namespace, Strict: strict, Cluster: true})
	var faults []error
	for _, f := range found.Errors() {
		if f.Line > 0 {
			faults = append(faults, errors.New(f.String()))
		}
	}
	for _, w := range found.Warnings() {
		fmt.Fprintln(stderr, w)
	}
	return set, errors.Join(faults...)
}

func newInstall() *cobra.Command {
	o := deploy.Options{CreateNamespace: true}
	cmd := &cobra.Command{
		Use:   "install | kubectl apply -f -",
		Short: "Print what runs Rouse in a cluster: namespace, roles, control, activators, policies",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := deploy.Render(o)
			if err != nil {
				return err
			}
			return deploy.Write(cmd.OutOrStdout(), all)
		},
	}
	installFlags(cmd, &o)
	return cmd
}

func installFlags(cmd *cobra.Command, o *deploy.Options) {
	f := cmd.Flags()
	f.StringVarP(&o.Namespace, "namespace", "n", "rouse-system", "where everything lives")
	f.BoolVar(&o.CreateNamespace, "create-namespace", o.CreateNamespace, "make the namespace")
	f.StringVar(&o.Repository, "image-repository", "", "images are REPOSITORY/autoscaler:TAG and so on (default rouse)")
	f.StringVar(&o.Tag, "image-tag", "", "tag of the images (default latest)")
	f.StringVar(&o.PullSecret, "image-pull-secret", "", "Secret of the namespace for a private registry")
	f.StringVar(&o.TokenSecret, "token-secret", "", "Secret that has the token of activators already, under the key token; without, control makes one with a random token")
	f.IntVar(&o.Control, "control", 0, "instances of control; 0 for the chart's 2")
	f.IntVar(&o.Activators, "activators", 0, "activators at least; 0 for the chart's 2")
	f.StringVar(&o.Audience, "token-audience", "", "let queue-proxies push their reports, with service account tokens for this audience; empty lets control fetch them")
	f.BoolVar(&o.Webhook, "webhook", false, "inject the queue-proxy into pods labelled rouse.dev/inject: enabled")
	sizeFlags(f, &o.Sidecar)
	f.StringToStringVar(&o.Autoscaler, "set", nil, "KEY=VALUE of config-autoscaler (repeatable)")
	f.StringSliceVar(&o.Only, "only", nil, "print only PART: "+strings.Join(deploy.Parts(), ", ")+" (repeatable)")
}
