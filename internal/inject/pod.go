package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/jsontext"
)

// Operation is one step of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Pod injects one pod, given as the API server sends it to a webhook, and returns the patch that does so, which is empty
// when there is nothing to do. A pod that has our queue-proxy is left alone, whoever has put it there: the API server may have
// completed it since, and what its workload's annotations say is not seen here. Namespace is the pod's, which it may not say itself before it exists. The pod's faults come
// as an error of type Faults; warnings are those that are minor.
func Pod(pod []byte, namespace string, o Options) (patch []Operation, warnings []string, err error) {
	if err := o.Validate(); err != nil {
		return nil, nil, err
	}
	if !json.Valid(pod) || len(pod) > mostBytes {
		return nil, nil, errors.New("the pod is no JSON, or too large")
	}
	var root yaml.Node
	if err := yaml.Unmarshal(jsontext.ForYAML(pod), &root); err != nil {
		return nil, nil, fmt.Errorf("the pod: %w", err)
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, nil, errors.New("the pod is no object")
	}
	top := field{node: root.Content[0], near: root.Content[0]}
	before, _ := top.value().(map[string]any)
	meta := top.at("metadata")
	t := &template{object: nameOf("Pod", meta), owner: meta, root: top, revision: revisionOfPod(meta), options: o}
	if meta.at("namespace").text() == "" {
		t.object = "Pod " + namespace + "/" + t.revision
	}
	if !t.asked() || t.injected() {
		return nil, nil, nil
	}
	if err := t.run(); err != nil {
		return nil, nil, err
	}
	if severe := t.faults.severe(); len(severe) > 0 {
		return nil, nil, severe
	}
	for _, f := range t.faults {
		f.Line = 0
		warnings = append(warnings, f.Error())
	}
	after, _ := top.value().(map[string]any)
	return difference(before, after), warnings, nil
}

// difference replaces the fields of the spec that changed: nothing else does.
func difference(before, after map[string]any) (patch []Operation) {
	old, _ := before["spec"].(map[string]any)
	now, _ := after["spec"].(map[string]any)
	keys := make([]string, 0, len(now))
	for k := range now {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !reflect.DeepEqual(old[k], now[k]) {
			patch = append(patch, Operation{Op: "add", Path: "/spec/" + k, Value: now[k]})
		}
	}
	return patch
}
