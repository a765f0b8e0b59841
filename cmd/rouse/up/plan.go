package up

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/manifest"
)

// planned is one service that can run: what it is, how it is configured, and what its pods are made from.
type planned struct {
	service *manifest.Service
	config  *config.Revision
	spec    localpods.Spec
}

// plan turns manifests into services that can run. Warnings are printed; with errors nothing runs.
func plan(o *Options) ([]planned, error) {
	images := manifest.Images{Dir: o.Images}
	var err error
	if images.Exec, err = manifest.ParseExec(o.Exec); err != nil {
		return nil, err
	}
	sources, err := manifest.Open(o.Stdin, o.Files...)
	if err != nil {
		return nil, err
	}
	set, diags := manifest.Load(sources, manifest.Options{Strict: o.Strict, Images: &images})
	for _, w := range diags.Warnings() {
		fmt.Fprintln(o.Stderr, w.String())
	}
	if err := diags.Err(); err != nil {
		return nil, err
	}
	flags, err := o.settings()
	if err != nil {
		return nil, err
	}
	above := config.Layers{Env: config.EnvLayer(o.Environ), Flags: flags}
	base := set.Autoscaler()
	if !base.InitialScale.IsSet() {
		// On one machine nothing runs before it is asked for, unless somebody wants it: docs/differences.md.
		base.InitialScale.V = 0
		base.AllowZeroInitialScale.V = true
	}
	var all []planned
	var errs []error
	for i := range set.Services {
		p, err := planService(o, &set.Services[i], base, above, images)
		errs = append(errs, err)
		all = append(all, p)
	}
	return all, errors.Join(errs...)
}

func planService(o *Options, s *manifest.Service, base config.Autoscaler, above config.Layers, images manifest.Images) (planned, error) {
	id := s.Revision(1, s.Template.Hash())
	rev, faults := config.Resolve(s.ConfigInput(id, base, above))
	if err := config.Join(faults); err != nil {
		return planned{}, fmt.Errorf("%s: %w", s.String(), err)
	}
	c := s.Template.Serving()
	argv, builtin, err := images.Resolve(c)
	if err != nil {
		return planned{}, fmt.Errorf("%s: %w", s.Where("spec.template.spec.containers[0].image"), err)
	}
	if builtin != "" {
		argv = append([]string{o.Self, "sample", builtin}, c.Args...)
	}
	mode, err := o.mode()
	if err != nil {
		return planned{}, err
	}
	spec := localpods.Spec{
		Revision: id, Service: s.Name, Configuration: s.Name,
		Argv: argv, Env: environment(c), Dir: c.WorkingDir,
		Readiness: probe(c.ReadinessProbe), Sidecar: mode,
		ContainerConcurrency: rev.ContainerConcurrency.V,
		Timeout:              rev.Timeout.V, ResponseStartTimeout: rev.ResponseStartTimeout.V, IdleTimeout: rev.IdleTimeout.V,
		ProgressDeadline: rev.ProgressDeadline.V,
	}
	if c.H2C() {
		spec.Protocol = endpoint.H2C
	}
	return planned{s, rev, spec}, spec.Validate()
}

func environment(c *manifest.Container) []string {
	env := make([]string, len(c.Env))
	for i, e := range c.Env {
		env[i] = e.Name + "=" + e.Value
	}
	return env
}

// probe translates a readiness probe. Exec and gRPC probes were warned of when the manifest was read, and fall back
// to an open port.
func probe(p *manifest.Probe) localpods.Probe {
	if p == nil {
		return localpods.Probe{}
	}
	out := localpods.Probe{
		HTTP: p.Kind == manifest.HTTPProbe, Path: p.Path, Host: p.Host,
		InitialDelay: seconds(p.InitialDelaySeconds), Timeout: seconds(p.TimeoutSeconds), Period: seconds(p.PeriodSeconds),
		SuccessThreshold: int(p.SuccessThreshold), FailureThreshold: int(p.FailureThreshold),
	}
	if len(p.Headers) > 0 {
		out.Headers = make(http.Header, len(p.Headers))
		for _, h := range p.Headers {
			out.Headers.Add(h.Name, h.Value)
		}
	}
	return out
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// describeSettings lists what somebody chose, with its origin.
func describeSettings(rev *config.Revision) string {
	chosen := map[string]string{}
	for _, v := range rev.Values() {
		if v.IsSet() {
			chosen[v.Name] = fmt.Sprintf("%s=%v", v.Name, v.V)
		}
	}
	parts := make([]string, 0, len(chosen))
	for _, k := range slices.Sorted(maps.Keys(chosen)) {
		parts = append(parts, chosen[k])
	}
	return strings.Join(parts, " ")
}
