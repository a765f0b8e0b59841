package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/internal/workload"
)

// exit ends the program with a code; what is to be said was said, unless there is an error.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

const checkLong = `Check a cluster before Rouse is installed there, the installation, and every annotated workload in scope; or,
with -f, annotated workloads in manifests without a cluster.

One line for each finding: ok, note, warning, failure, or unknown for what could not be asked. The exit code is 0 when
nothing has failed, 1 with failures, 2 when something could not be asked and nothing else has failed: a cluster, a file that
can't be opened, or the command line itself. Manifests that are broken or empty are failures.`

func newCheck() *cobra.Command {
	var r reach
	var files []string
	var format string
	cmd := &cobra.Command{
		Use: "check [-n NAMESPACE|-A] | check -f FILE", Long: checkLong,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("%q: manifests are given by --file, a namespace by --namespace", args[0])
		},
		Short: "What is wrong with the installation and with annotated workloads, and how to mend it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := check(cmd, &r, files, format)
			if err != nil {
				return &exit{exitUnasked, err}
			}
			if err := show(cmd.OutOrStdout(), format, found); err != nil {
				return err
			}
			if code := verdict(found); code != 0 {
				return &exit{code: code}
			}
			return nil
		},
	}
	r.flags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "check manifests instead of a cluster: a file, a directory (its own *.yaml, *.yml and *.json), or - for standard input (repeatable)")
	return cmd
}

func check(cmd *cobra.Command, r *reach, files []string, format string) ([]finding, error) {
	if err := checkFormat(format); err != nil {
		return nil, err
	}
	if len(files) > 0 {
		if r.all || r.kubeconfig != "" || r.context != "" {
			return nil, errors.New("--file looks at no cluster: leave --all-namespaces, --kubeconfig and --context away")
		}
		return checkFiles(cmd.InOrStdin(), files, r.namespace)
	}
	client, err := r.connect("check")
	if err != nil {
		return nil, err
	}
	return checkCluster(cmd.Context(), client, r)
}

// checkFiles judges the workloads of manifests; namespace is that of objects which name none.
func checkFiles(stdin io.Reader, paths []string, namespace string) ([]finding, error) {
	if namespace == "" {
		namespace = "default"
	}
	sources, err := manifest.Open(stdin, paths...)
	if err != nil {
		return nil, err
	}
	var out, injection []finding
	for _, w := range manifest.PassedOver(paths...) {
		out = append(out, finding{Level: warned, Check: "manifest", Text: w})
	}
	all := kube.NewFiles(namespace)
	for _, s := range sources {
		faults := all.Add(s.Name, s.Data)
		for _, fault := range faults {
			out = append(out, finding{Level: failed, Check: "manifest", Text: fault.Error()})
		}
		injection = append(injection, judgeInjection(s, len(faults) == 0)...)
	}
	base := config.DefaultAutoscaler()
	if data, ok := all.Settings["config-autoscaler"]; ok {
		var said []finding
		base, said = judgeSettings("config-autoscaler", data, true)
		out = append(out, said...)
	}
	seen := all.Seen(base)
	for i := range seen {
		said := judgeManifest(&seen[i])
		if seen[i].Bound && verdict(said) == 0 {
			said = append(said, finding{Level: good, Check: checkWorkload, About: aboutWorkload(&seen[i]), Text: "Service " + seen[i].Service.Name + " carries its traffic"})
		}
		out = append(out, said...)
	}
	out = append(out, injection...)
	if all.Objects == 0 && verdict(out) == 0 {
		return append(out, finding{Level: failed, Check: "manifest", Text: "there is no object in these files", Remedy: "see whether what renders them does"}), nil
	}
	if len(seen) == 0 && verdict(out) == 0 { // else what could not be read may have them
		out = append(out, finding{Level: warned, Check: checkWorkload, Text: "no Deployment or StatefulSet in these files is annotated",
			Remedy: "annotate with autoscaling.knative.dev/class: " + config.ClassKPA})
	}
	return out, nil
}

// judgeManifest says what is wrong with a workload before it is in a cluster.
func judgeManifest(s *kube.Seen) []finding {
	return slices.Concat(judgeSettled(s), judgeUnseen(s), judgeTargets(s), judgeImages(s), judgeReplicas(s))
}

// judgeInjection says what `rouse inject` would of the workloads that ask for a queue-proxy. What else was said of them is
// left out, and so is what the file as a whole fails by when it was not readable.
func judgeInjection(s manifest.Source, readable bool) (out []finding) {
	const check = "injection"
	faults, err := inject.Check(s.Name, s.Data)
	if err != nil && readable {
		return []finding{{Level: failed, Check: check, Text: err.Error()}}
	}
	for _, f := range faults {
		level := failed
		switch {
		case f.Told:
			continue
		case f.Minor:
			level = warned
		}
		about := fmt.Sprintf("%s:%d %s", f.File, f.Line, f.Object)
		f.File, f.Line, f.Object, f.Minor = "", 0, "", false
		remedy := f.Remedy
		f.Remedy = ""
		out = append(out, finding{level, check, about, f.Error(), remedy})
	}
	return out
}

// checkCluster asks everything. It fails when nothing can be asked at all.
func checkCluster(ctx context.Context, c apiServer, r *reach) ([]finding, error) {
	v, err := c.Version(ctx)
	if err != nil {
		return nil, err
	}
	k := &checker{c: c, reach: r, out: []finding{judgeVersion(v)}, base: config.DefaultAutoscaler(), now: time.Now()}
	k.components(ctx)
	switch {
	case k.blind:
	case k.control == nil && k.activators == nil:
		k.uninstalled(ctx)
	default:
		k.installed(ctx)
	}
	k.workloads(ctx)
	return k.out, nil
}

// checker goes from one check to the next and keeps what the later ones need.
type checker struct {
	c     apiServer
	reach *reach
	now   time.Time
	out   []finding

	control, activators, webhook *kube.Component // nil when not there
	blind                        bool            // they could not be read
	elsewhere                    bool            // another namespace has them
	base                         config.Autoscaler
	in                           surroundings
}

func (k *checker) add(f ...finding) { k.out = append(k.out, f...) }

// components reads what is installed.
func (k *checker) components(ctx context.Context) {
	for _, part := range []struct {
		kind workload.Kind
		name string
		to   **kube.Component
	}{
		{workload.StatefulSet, controlName, &k.control}, {workload.Deployment, activatorName, &k.activators}, {workload.Deployment, webhookName, &k.webhook},
	} {
		got, err := k.c.Component(ctx, k.reach.system, part.kind, part.name)
		if err != nil {
			k.blind = true
			k.add(unasked("installation", err, kube.Right{}))
			return
		}
		*part.to = got
	}
}

// workloads judges every annotated workload in scope. Where their endpoints are at fault, all is read a second time: a
// change that is under way is no fault.
func (k *checker) workloads(ctx context.Context) {
	found, n, err := k.look(ctx)
	if err == nil && verdict(found) == exitFound && k.control != nil {
		pause(ctx, settle)
		k.refresh(ctx)
		var second []finding
		if second, _, err = k.look(ctx); err == nil {
			found = lasting(found, second)
		}
	}
	k.add(found...)
	if err != nil {
		k.add(unasked(checkWorkload, err, kube.Right{}))
	} else if n == 0 {
		k.add(finding{Level: good, Check: checkWorkload, Text: "none is annotated in " + k.reach.scope()})
	} else if k.control == nil && !k.blind && !k.elsewhere {
		k.add(finding{failed, checkWorkload, "", fmt.Sprintf("%d are annotated, and nobody scales them", n), install})
	}
}

// settle is how long a change of endpoints may take before it counts as a fault.
const settle = 3 * time.Second

func (k *checker) look(ctx context.Context) (out []finding, n int, err error) {
	v, err := k.c.View(ctx, k.reach.namespace, true)
	if err != nil {
		return nil, 0, err
	}
	for _, kind := range slices.Sorted(maps.Keys(v.Unread)) {
		out = append(out, unasked(kind, v.Unread[kind], kube.Right{Verb: "list", Resource: kind, Namespace: k.reach.namespace}))
	}
	out = append(out, judgeNodePorts(k.in.within, v.NodePorts)...)
	k.in.pods = v.Unread[kube.KindPods] == nil
	seen := v.Seen(k.base)
	for i := range seen {
		if k.control == nil {
			out = append(out, slices.Concat(judgeSettled(&seen[i]), judgeUnseen(&seen[i]))...)
		} else {
			out = append(out, judgeWorkload(&seen[i], k.in)...)
		}
	}
	return out, len(seen), nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
