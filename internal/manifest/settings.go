package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
)

// Autoscaler returns the settings of the set's config-autoscaler, or the defaults when it has none. Faulty
// settings, which are errors of the load, count as none.
func (s *Set) Autoscaler() config.Autoscaler {
	cm, ok := s.ConfigMap("knative-serving", AutoscalerConfig)
	if !ok {
		return config.DefaultAutoscaler()
	}
	a, faults := config.ParseAutoscaler(cm.Data, cm.WhereKey)
	if len(faults) > 0 {
		return config.DefaultAutoscaler()
	}
	return a
}

// ConfigInput returns what a revision's settings are resolved from: the template's annotations and numbers, each
// with its place in the file, beneath the environment and flags in above.
func (s *Service) ConfigInput(id identity.Revision, base config.Autoscaler, above config.Layers) config.Input {
	above.At = s.WhereAnnotation
	in := config.Input{
		ID: id, Service: s.Name, Configuration: s.Name,
		Autoscaler: base, Annotations: s.Template.Annotations, Above: above,
		SpecAt: func(field string) string { return s.Where("spec.template.spec." + field) },
	}
	t := &s.Template
	in.ContainerConcurrency = s.written("containerConcurrency", &t.ContainerConcurrency)
	in.TimeoutSeconds = s.written("timeoutSeconds", &t.TimeoutSeconds)
	in.IdleTimeoutSeconds = s.written("idleTimeoutSeconds", &t.IdleTimeoutSeconds)
	in.ResponseStartTimeoutSeconds = s.written("responseStartTimeoutSeconds", &t.ResponseStartTimeoutSeconds)
	_ = in.SpecFromAnnotations()                                                    // their faults are errors of the load
	if in.ResponseStartTimeoutSeconds == nil && t.ResponseStartTimeoutSeconds > 0 { // a default that depends on timeoutSeconds
		in.ResponseStartTimeoutSeconds = &t.ResponseStartTimeoutSeconds
	}
	return in
}

// written returns v when the field stands in the file, so that a default keeps its origin.
func (s *Service) written(field string, v *int64) *int64 {
	if _, ok := s.pos.lines["spec.template.spec."+field]; !ok {
		return nil
	}
	return v
}

// checkSettings has package config judge what it reads, and puts its faults where the setting stands.
func (l *loader) checkSettings() {
	for i := range l.set.ConfigMaps {
		cm := &l.set.ConfigMaps[i]
		if cm.Name == AutoscalerConfig {
			_, faults := config.ParseAutoscaler(cm.Data, nil)
			l.refused(&cm.Object, "data", faults)
			l.unknownKeys(cm)
		}
	}
	base := l.set.Autoscaler()
	for i := range l.set.Services {
		s := &l.set.Services[i]
		l.checkRevision(s, base)
		l.unknownAnnotations(s)
		l.checkClass(s, base)
	}
}

// checkRevision judges a service's annotations, those that stand for a field of the template with it.
func (l *loader) checkRevision(s *Service, base config.Autoscaler) {
	in := config.Input{Annotations: s.Template.Annotations}
	l.refused(&s.Object, templateAnnotations, in.SpecFromAnnotations())
	_, faults := config.Resolve(s.ConfigInput(identity.Revision{}, base, config.Layers{}))
	for _, f := range faults {
		if strings.Contains(f.Key, "/") {
			l.refused(&s.Object, templateAnnotations, []config.Fault{f})
			continue
		}
		path := "spec.template.spec." + f.Key
		l.add(Fault{Error, s.pos.file, s.pos.lineOf(path), s.String(), path, fmt.Sprintf("is %q, must be %s", clip(f.Value), f.Allowed), ""})
	}
}

const templateAnnotations = "spec.template.metadata.annotations"

func (l *loader) refused(o *Object, path string, faults []config.Fault) {
	for _, f := range faults {
		if l.isFaulty(o, fmt.Sprintf("%s[%s]", path, f.Key)) {
			continue
		}
		text := fmt.Sprintf("is %q, must be %s", clip(f.Value), f.Allowed)
		if f.Why != "" {
			text = fmt.Sprintf("is %q (%s), must be %s", clip(f.Value), f.Why, f.Allowed)
		}
		l.addKeyed(Error, o, path, f.Key, text, "")
	}
}

// isFaulty reports whether an error of a field was found before: what is no text is no good setting either.
func (l *loader) isFaulty(o *Object, path string) bool {
	return slices.ContainsFunc(l.diags, func(f Fault) bool {
		return f.Severity == Error && f.File == o.pos.file && f.Object == o.String() && f.Path == path
	})
}

// addKeyed reports a fault of one key of a text map.
func (l *loader) addKeyed(s Severity, o *Object, path, key, text, remedy string) {
	path = fmt.Sprintf("%s[%s]", path, key)
	l.add(Fault{s, o.pos.file, o.pos.lineOf(path), o.String(), path, text, remedy})
}

func (l *loader) unknownKeys(cm *ConfigMap) {
	for _, k := range config.UnknownKeys(cm.Data) {
		l.addKeyed(Warning, &cm.Object, "data", k, "nothing reads this key", meant(k, config.ClusterKeys()))
	}
}

func (l *loader) unknownAnnotations(s *Service) {
	for _, k := range config.UnknownAnnotations(s.Template.Annotations) {
		l.addKeyed(Warning, &s.Object, templateAnnotations, k, "nothing reads this annotation", meant(k, config.Annotations()))
	}
}

// checkClass warns of a class whose autoscaler is not ours.
func (l *loader) checkClass(s *Service, base config.Autoscaler) {
	const key = config.PrefixAutoscaling + "class"
	class, ok := s.Template.Annotations[key]
	if !ok {
		class = base.Class.V
	}
	if class != config.ClassKPA {
		remedy := ""
		if ok && class == config.ClassHPA {
			remedy = insteadOfHPA
		}
		l.addKeyed(Warning, &s.Object, templateAnnotations, key,
			fmt.Sprintf("class %q is not built: the service is scaled as %s", clip(class), config.ClassKPA), remedy)
	}
	const metric = config.PrefixAutoscaling + "metric"
	if name := config.UnbuiltMetric(class, s.Template.Annotations[metric]); name != "" {
		l.addKeyed(Warning, &s.Object, templateAnnotations, metric, config.InsteadOf(clip(name)), "")
	}
}

// insteadOfHPA is how to say CPU and memory without the class that knows nothing else.
const insteadOfHPA = "make it " + config.ClassKPA + ", which takes CPU and memory beside requests by " + config.PrefixRouse +
	`metrics, such as "cpu=800m, memory=512Mi" in cores and bytes`

func meant(key string, known []string) string {
	if near := config.Nearest(key, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "it has no effect"
}

// rolloutKeys are the spellings of the annotation that spreads a change of traffic over time.
var rolloutKeys = []string{"serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration"}

// rolloutDuration reads the service's annotation; 0 is at once.
func (l *loader) rolloutDuration(o *object, annotations map[string]string) time.Duration {
	for _, key := range rolloutKeys {
		text, ok := annotations[key]
		if !ok || text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d%time.Second != 0 {
			l.addKeyed(Error, o.obj, "metadata.annotations", key,
				fmt.Sprintf("is %q, must be a duration of whole seconds from 0s, such as 380s", clip(text)), "")
			return 0
		}
		return d
	}
	return 0
}

const visibilityLabel = "networking.knative.dev/visibility"

// clusterLocal reads the label that keeps a service off its public host.
func (l *loader) clusterLocal(o *object, labels map[string]string) bool {
	v, ok := labels[visibilityLabel]
	if ok && v != "cluster-local" {
		l.addKeyed(Error, o.obj, "metadata.labels", visibilityLabel, fmt.Sprintf("is %q, must be cluster-local", clip(v)), "or leave it out")
	}
	return ok
}

// misplaced reports autoscaling annotations on the service: Knative refuses them there, since only those of the
// template reach the revision.
func (l *loader) misplaced(o *object, annotations map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(key, config.PrefixAutoscaling) {
			l.addKeyed(Error, o.obj, "metadata.annotations", key, "has no effect on the service itself", "move it to "+templateAnnotations)
		}
	}
}
