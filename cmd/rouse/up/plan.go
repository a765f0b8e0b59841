package up

import (
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

// planned is one revision that can run: what it was made from, how it is configured, and what its pods are.
type planned struct {
	service *manifest.Service
	config  *config.Revision
	spec    localpods.Spec
	hash    string // of the template
	warm    bool   // begins with a pod
}

// intake is what one reading of manifests gave.
type intake struct {
	services     []manifest.Service
	interceptors []manifest.InterceptorRoute
	others       []manifest.Document
	base         config.Autoscaler
	sources      []manifest.Source
}

// read decodes manifests. Warnings are returned; with errors nothing may run.
func (p *planner) read(sources []manifest.Source) (intake, manifest.Diagnostics, error) {
	set, diags := manifest.Load(sources, manifest.Options{Strict: p.o.Strict, Images: &p.images, InterceptorRoutes: true, Others: []string{kafkaSource, scaledObject}})
	if err := diags.Err(); err != nil {
		return intake{}, diags.Warnings(), err
	}
	return intake{set.Services, set.InterceptorRoutes, set.Others, set.Autoscaler(), sources}, diags.Warnings(), nil
}

// planner turns services into revisions that can run.
type planner struct {
	o      *Options
	images manifest.Images
	above  config.Layers
	mode   localpods.SidecarMode
}

func newPlanner(o *Options) (p *planner, err error) {
	p = &planner{o: o, images: manifest.Images{Dir: o.Images}}
	if p.images.Exec, err = manifest.ParseExec(o.Exec); err != nil {
		return nil, err
	}
	if p.mode, err = o.mode(); err != nil {
		return nil, err
	}
	flags, err := config.ParseFlags(o.Set)
	p.above = config.Layers{Env: config.EnvLayer(o.Environ), Flags: flags}
	return p, err
}

// plan makes the revision of one generation. A first revision starts at zero unless somebody wants otherwise: on one
// machine nothing runs before it is asked for (docs/differences.md). A later one starts with a pod, as in Knative, so
// that traffic moves to it when it is ready.
func (p *planner) plan(s *manifest.Service, base config.Autoscaler, generation int64, warm bool) (*planned, error) {
	if !base.InitialScale.IsSet() && !warm {
		base.InitialScale.V = 0
		base.AllowZeroInitialScale.V = true
	}
	hash := s.Template.Hash()
	id := s.Revision(generation, hash)
	rev, faults := config.Resolve(s.ConfigInput(id, base, p.above))
	if err := config.Join(faults); err != nil {
		return nil, fmt.Errorf("%s: %w", s.String(), err)
	}
	spec, err := p.spec(s, rev)
	if err != nil {
		return nil, err
	}
	return &planned{s, rev, spec, hash, warm}, spec.Validate()
}

func (p *planner) spec(s *manifest.Service, rev *config.Revision) (localpods.Spec, error) {
	c := s.Template.Serving()
	argv, builtin, err := p.images.Resolve(c)
	if err != nil {
		return localpods.Spec{}, fmt.Errorf("%s: %w", s.Where("spec.template.spec.containers[0].image"), err)
	}
	if builtin != "" {
		argv = append([]string{p.o.Self, "sample", builtin}, c.Args...)
	}
	spec := localpods.Spec{
		Revision: rev.ID, Service: s.Name, Configuration: s.Name,
		Argv: argv, Env: environment(c), Dir: c.WorkingDir,
		Readiness: probe(c.ReadinessProbe), Sidecar: p.mode,
		ContainerConcurrency: rev.ContainerConcurrency.V,
		Timeout:              rev.Timeout.V, ResponseStartTimeout: rev.ResponseStartTimeout.V, IdleTimeout: rev.IdleTimeout.V,
		ProgressDeadline: rev.ProgressDeadline.V, Measured: measured(rev),
	}
	if spec.Measured && p.mode == localpods.SidecarNone {
		fmt.Fprintf(p.o.Stderr, "%s: with --sidecars=none nobody measures CPU and memory: choose inprocess, or aim at requests alone\n", s.String())
	}
	if c.H2C() {
		spec.Protocol = endpoint.H2C
	}
	return spec, nil
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

// describeSettings says how much a pod takes at once, and lists what somebody chose beside that.
func describeSettings(rev *config.Revision) string {
	chosen := map[string]string{}
	for _, v := range rev.Values() {
		if v.IsSet() && v.Name != "containerConcurrency" {
			chosen[v.Name] = v.Name + "=" + rev.Show(v)
		}
	}
	parts := []string{rev.PerPod()}
	for _, k := range slices.Sorted(maps.Keys(chosen)) {
		parts = append(parts, chosen[k])
	}
	return strings.Join(parts, ", ")
}
