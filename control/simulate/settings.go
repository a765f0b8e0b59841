package simulate

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/workload"
)

// document is what is read of a YAML document: a Knative Service, an annotated workload, or the ConfigMap
// config-autoscaler.
type document struct {
	APIVersion, Kind string
	Metadata         struct {
		Name        string
		Annotations map[string]string
	}
	Data map[string]string
	Spec struct {
		Template struct {
			Metadata struct{ Annotations map[string]string }
			Spec     struct{ ContainerConcurrency *int64 }
		}
	}
}

// settings is what a policy is made from.
type settings struct {
	name        string
	configMap   map[string]string
	annotations map[string]string
	limit       *int64
	workload    bool // of Kubernetes: it begins with its replicas, none in a simulation
	flags       map[string]string
}

// readSettings takes the settings of the first Knative Service or annotated workload and of config-autoscaler from a file
// of YAML documents. Other documents are left alone: they change nothing about the scaling.
func readSettings(path string) (settings, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return settings{}, err
	}
	var s settings
	for _, part := range bytes.Split(append([]byte("\n"), raw...), []byte("\n---")) {
		var d document
		if err := yaml.Unmarshal(part, &d); err != nil {
			return settings{}, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case d.Kind == "ConfigMap" && d.Metadata.Name == "config-autoscaler":
			s.configMap = d.Data
		case s.name != "":
		case d.Kind == "Service" && strings.HasPrefix(d.APIVersion, "serving.knative.dev/"):
			s.name = d.Metadata.Name
			s.annotations = d.Spec.Template.Metadata.Annotations
			s.limit = d.Spec.Template.Spec.ContainerConcurrency
		case d.annotated():
			s.name, s.workload, s.annotations = d.Metadata.Name, true, d.Metadata.Annotations
		}
	}
	if s.name == "" && s.configMap == nil {
		return settings{}, fmt.Errorf("%s: neither a Knative Service (serving.knative.dev/v1), nor a Deployment or StatefulSet with the annotation %s, "+
			"nor the ConfigMap config-autoscaler is in it", path, classKey)
	}
	return s, nil
}

// classKey is the annotation that makes a workload one that is scaled.
const classKey = config.PrefixAutoscaling + "class"

// annotated reports whether the document is a workload that control would scale.
func (d *document) annotated() bool {
	o := workload.Object{Annotations: d.Metadata.Annotations}
	return strings.HasPrefix(d.APIVersion, "apps/") && (d.Kind == "Deployment" || d.Kind == "StatefulSet") && o.OptedIn()
}

// warnOfWorkload warns of a workload's annotations that nothing reads.
func warnOfWorkload(stderr io.Writer, path string) {
	s, err := readSettings(path)
	if err != nil || !s.workload {
		return // it is an error of the configuration
	}
	for _, key := range config.UnknownAnnotations(s.annotations) {
		if strings.HasPrefix(key, config.PrefixRouse+"inject") { // for the injection of the queue-proxy
			continue
		}
		meant := "it has no effect"
		if near := config.Nearest(key, config.Annotations()); near != "" {
			meant = "did you mean " + near + "?"
		}
		fmt.Fprintf(stderr, "%s: warning: %s: metadata.annotations[%s]: nothing reads this annotation; %s\n", path, s.name, key, meant)
	}
}

// set puts key=value over the settings: see config.ParseFlags.
func (s *settings) set(pairs []string) (err error) {
	s.flags, err = config.ParseFlags(pairs)
	return err
}

// unmodelled are settings of which the model has nothing: it has no network, no pods that fail, and nobody who gives up.
var unmodelled = []string{"session-affinity", "zone-preference", "outlier-ejection", "pod-probe",
	"timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}

// sayUnmodelled tells of settings that somebody chose and that change nothing here.
func sayUnmodelled(stderr io.Writer, pairs []string) {
	flags, _ := config.ParseFlags(pairs) // its faults have been reported
	for _, key := range unmodelled {
		if _, ok := flags[key]; ok {
			fmt.Fprintf(stderr, "--set %s: the model does not know this setting, it changes nothing here\n", key)
		}
	}
}

// resolve puts the settings into c, and reports all faults at once. A workload of Kubernetes begins with none, and a revision on one machine begins without pods unless
// somebody says otherwise, as in `rouse up`.
func (s *settings) resolve(c *Config) error {
	base, faults := config.ParseAutoscaler(s.configMap, nil)
	if len(faults) > 0 {
		return config.Join(faults)
	}
	if s.workload || !c.DirectPath && !base.InitialScale.IsSet() {
		base.InitialScale.V = 0
		base.AllowZeroInitialScale.V = true
	}
	in := config.Input{Autoscaler: base, Annotations: s.annotations, ContainerConcurrency: s.limit, Above: config.Layers{Flags: s.flags}}
	faults = in.SpecFromAnnotations()
	rev, more := config.Resolve(in)
	if faults = append(faults, more...); len(faults) > 0 {
		return config.Join(faults)
	}
	c.Policy = rev.Policy()
	setDefault(&c.Service.QueueLimit, rev.QueueLimit.V)
	setDefault(&c.Service.QueueDeadline, rev.QueueDeadline.V)
	if floors := rev.Scaling.Floors(); floors != nil {
		c.Floors = floors
	}
	return nil
}
