package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/jsontext"
	"github.com/rousehq/rouse/internal/place"
)

// Files are the objects of manifests, as a [View] of a cluster that has nothing else. Make one with [NewFiles].
type Files struct {
	*View
	// Settings is the data of each ConfigMap, by name: config-autoscaler is one.
	Settings map[string]map[string]string
	// Objects counts what was read, of whatever kind.
	Objects   int
	namespace string
}

// NewFiles makes an empty collection; objects that name no namespace are in the given one.
func NewFiles(namespace string) *Files {
	return &Files{View: newView(), Settings: map[string]map[string]string{}, namespace: namespace}
}

// Add takes every document of a file, and tells what can't be read, each with the line where its document begins.
// Kinds that nobody asks for are left out.
func (f *Files) Add(name string, text []byte) (faults []error) {
	for _, d := range documents(jsontext.ForYAML(text)) {
		at := spot{name, d.line, place.Document(d.text, d.line-1)}
		body, err := yaml.YAMLToJSON(d.text)
		switch {
		case err == nil && !alone(d.text):
			err = errors.New("something follows it without a marker; put a line --- between documents")
		case err == nil:
			faults = append(faults, f.document(body, at)...)
		default: // with the file's lines before it, the parser names lines as the file has them
			_, err = yaml.YAMLToJSON(append(bytes.Repeat([]byte("\n"), d.line-1), d.text...))
		}
		if err != nil {
			faults = append(faults, at.fault(err))
		}
	}
	return faults
}

// spot is an object in a file.
type spot struct {
	file  string
	line  int
	place place.Place
}

func (s spot) String() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

func (s spot) fault(err error) error { return fmt.Errorf("%s: %w", s, err) }

// item is the spot of one of a List's.
func (s spot) item(i int) spot {
	if at := s.place.At("items").Item(i); at.Found() {
		return spot{s.file, at.Line(), at}
	}
	return s
}

// annotatedAt are where the annotations of a workload are, those that win first.
var annotatedAt = [][]string{{"metadata", "annotations"}, {"spec", "template", "metadata", "annotations"}}

// annotation says where a workload's annotation is.
func (s spot) annotation(key string) string {
	for _, path := range annotatedAt {
		if at := s.place.At(path...).At(key); at.Found() {
			return fmt.Sprintf("%s:%d", s.file, at.Line())
		}
	}
	return ""
}

// document is one object or a List of them.
func (f *Files) document(body []byte, at spot) (faults []error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Items           []json.RawMessage `json:"items"`
	}
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return nil
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return []error{at.fault(fmt.Errorf("no object of Kubernetes: %w", readable(err, at, "with apiVersion and kind")))}
	}
	if of, ok := strings.CutSuffix(head.Kind, "List"); ok {
		for i, item := range head.Items {
			faults = append(faults, f.document(ofKind(item, head.APIVersion, of), at.item(i))...)
		}
		return faults
	}
	f.Objects++
	obj := blank(head.APIVersion, head.Kind)
	if obj == nil {
		return nil
	}
	if faults := notTexts(body, head.Kind, at); len(faults) > 0 {
		return faults
	}
	if err := json.Unmarshal(body, obj); err != nil {
		return []error{at.fault(fmt.Errorf("%s: %w", head.Kind, readable(err, at, "")))}
	}
	if m, ok := obj.(metav1.Object); ok && m.GetNamespace() == "" {
		m.SetNamespace(f.namespace)
	}
	if c, ok := obj.(*corev1.ConfigMap); ok {
		f.Settings[c.Name] = c.Data
	}
	before := len(f.workloads)
	f.add(obj, at.String())
	for _, w := range f.workloads[before:] {
		w.At = at.annotation
	}
	return nil
}

// ofKind gives an item of a typed list, such as a DeploymentList, the kind that it need not say itself.
func ofKind(item []byte, apiVersion, kind string) []byte {
	var fields map[string]any
	if kind == "" || json.Unmarshal(item, &fields) != nil || fields["kind"] != nil {
		return item
	}
	fields["apiVersion"], fields["kind"] = apiVersion, kind
	named, err := json.Marshal(fields)
	if err != nil {
		return item
	}
	return named
}

// blank makes an empty object of a kind, nil for kinds that nobody asks for.
func blank(apiVersion, kind string) any {
	switch apiVersion + " " + kind {
	case "apps/v1 Deployment":
		return &appsv1.Deployment{}
	case "apps/v1 StatefulSet":
		return &appsv1.StatefulSet{}
	case "v1 Service":
		return &corev1.Service{}
	case "v1 ConfigMap":
		return &corev1.ConfigMap{}
	case "v1 Pod":
		return &corev1.Pod{}
	case "discovery.k8s.io/v1 EndpointSlice":
		return &discoveryv1.EndpointSlice{}
	case "autoscaling/v1 HorizontalPodAutoscaler", "autoscaling/v2 HorizontalPodAutoscaler": // their targets are written alike
		return &autoscalingv2.HorizontalPodAutoscaler{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "keda.sh/v1alpha1 ScaledObject":
		return &unstructured.Unstructured{}
	}
	return nil
}

// alone says that nothing follows a document: the parser reads the first one and leaves the rest. Only behind a closing brace
// or bracket can it do so, and within further brackets nothing can stand there without a comma.
func alone(text []byte) bool {
	if t := bytes.TrimSpace(text); len(t) == 0 || t[0] != '{' && t[0] != '[' {
		return true
	}
	_, err := yaml.YAMLToJSON(slices.Concat([]byte("["), text, []byte("\n]")))
	return err == nil
}

// document is a part of a YAML stream.
type document struct {
	line int // where its first line with something on it is, from 1
	text []byte
}

// documents cuts a stream at the lines that begin with three dashes, or with the three dots that end a document.
func documents(text []byte) (all []document) {
	var now document
	end := func() {
		if now.line > 0 {
			all = append(all, now)
		}
		now = document{}
	}
	line := 0
	for one := range bytes.Lines(text) {
		line++
		if bytes.HasPrefix(one, []byte("---")) || bytes.HasPrefix(one, []byte("...")) {
			end()
			one = one[len("---"):] // an object may follow on the same line
		}
		if now.line == 0 {
			if t := bytes.TrimSpace(one); len(t) == 0 || t[0] == '#' {
				continue
			}
			now.line = line
		}
		now.text = append(now.text, one...)
	}
	end()
	return all
}
