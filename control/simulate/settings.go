package simulate

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/config"
)

// document is what is read of a YAML document: a Knative Service, or the ConfigMap config-autoscaler.
type document struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
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
}

// readSettings takes the settings of the first Knative Service and of config-autoscaler from a file of YAML documents.
// Other documents are left alone: they change nothing about the scaling.
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
		case d.Kind == "Service" && s.name == "":
			s.name = d.Metadata.Name
			s.annotations = d.Spec.Template.Metadata.Annotations
			s.limit = d.Spec.Template.Spec.ContainerConcurrency
		}
	}
	if s.name == "" && s.configMap == nil {
		return settings{}, fmt.Errorf("%s: neither a Knative Service nor the ConfigMap config-autoscaler is in it", path)
	}
	return s, nil
}

// set puts key=value over the settings: an annotation, with or without its prefix, or containerConcurrency.
func (s *settings) set(pairs []string) error {
	annotations := map[string]string{}
	for k, v := range s.annotations {
		annotations[k] = v
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("--set %s: write key=value, such as target=10 or containerConcurrency=1", pair)
		}
		if key == "containerConcurrency" {
			var n int64
			if _, err := fmt.Sscan(value, &n); err != nil {
				return fmt.Errorf("--set %s: %w", pair, err)
			}
			s.limit = &n
			continue
		}
		if !strings.Contains(key, "/") {
			key = prefixOf(key) + key
		}
		annotations[key] = value
	}
	s.annotations = annotations
	return nil
}

func prefixOf(key string) string {
	switch key {
	case "burst", "metrics", "schedule":
		return config.PrefixRouse
	}
	return config.PrefixAutoscaling
}

// resolve puts the settings into c, and reports all faults at once. A revision on one machine begins without pods unless
// somebody says otherwise, as in `rouse up`.
func (s *settings) resolve(c *Config) error {
	base, faults := config.ParseAutoscaler(s.configMap, nil)
	if len(faults) > 0 {
		return config.Join(faults)
	}
	if !c.DirectPath && !base.InitialScale.IsSet() {
		base.InitialScale.V = 0
		base.AllowZeroInitialScale.V = true
	}
	rev, faults := config.Resolve(config.Input{Autoscaler: base, Annotations: s.annotations, ContainerConcurrency: s.limit})
	if len(faults) > 0 {
		return config.Join(faults)
	}
	c.Policy = rev.Policy()
	if floors := rev.Scaling.Floors(); floors != nil {
		c.Floors = floors
	}
	return nil
}
