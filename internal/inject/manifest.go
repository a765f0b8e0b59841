package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/jsontext"
	"github.com/rousehq/rouse/internal/workload"
)

// Result is a file after injection.
type Result struct {
	YAML     []byte
	Injected []string // objects that have a sidecar now, whether or not it was there before
	Left     []string // objects with pods that were not asked for
	TakenOut []string // objects that are opted out, and had a sidecar
	Faults   Faults
}

// most is how deep lists may be nested, and how large a document may be: what is larger is no manifest.
const (
	mostDepth = 4
	mostBytes = 16 << 20
)

// Manifest injects every opted-in Deployment, StatefulSet and Pod of a file, which may have several documents and Lists.
// The error says that the options are wrong or that the file is no YAML; what is wrong with a workload is among the
// result's faults, and then its document is as it was.
func Manifest(file string, text []byte, o Options) (Result, error) {
	return Part(file, 0, text, o)
}

// Part is [Manifest] for a part of a file that so many lines stand before.
func Part(file string, before int, text []byte, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if len(text) > mostBytes {
		return Result{}, fmt.Errorf("%s: larger than %d bytes", file, mostBytes)
	}
	var r Result
	for _, d := range documents(text) {
		d.line += before
		out, err := r.document(file, d, o)
		if err != nil {
			return Result{}, fmt.Errorf("%s: %w", file, err)
		}
		r.YAML = append(r.YAML, out...)
	}
	return r, nil
}

// Check returns what [Manifest] would say of the workloads of a file that ask for a queue-proxy by the annotation or the label
// [Inject], and changes nothing. Its error is that of Manifest.
func Check(file string, text []byte) (Faults, error) {
	r, err := Manifest(file, text, Options{Image: ContainerName, wished: true})
	return r.Faults, err
}

// document is a piece of a file between two markers, with the marker that begins it.
type document struct {
	text []byte
	line int // of the file, before the piece
}

// documents cuts at lines that begin with "---": inside of a document no line may (YAML 1.2, 9.1.2).
func documents(text []byte) (all []document) {
	line, begin, beginLine := 0, 0, 0
	for at := 0; at < len(text); line++ {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if l := text[at:end]; at > begin && bytes.HasPrefix(l, []byte("---")) && (len(l) == 3 || strings.ContainsRune(" \t\r\n", rune(l[3]))) {
			all = append(all, document{text[begin:at], beginLine})
			begin, beginLine = at, line
		}
		at = end
	}
	return append(all, document{text[begin:], beginLine})
}

// document returns what stands in the place of one.
func (r *Result) document(file string, d document, o Options) ([]byte, error) {
	var root yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(jsontext.ForYAML(d.text)))
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return d.text, nil // nothing but comments
		}
		return nil, fmt.Errorf("document at line %d: %w", d.line+1, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) { // as after "...", or one JSON object behind another
		return nil, fmt.Errorf("document at line %d: something follows it without a marker; put a line --- between documents", d.line+1)
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return d.text, nil
	}
	shift(&root, d.line)
	whole, err := expand(&root)
	if err != nil {
		return nil, fmt.Errorf("document at line %d: %w", d.line+1, err)
	}
	top := field{node: whole.Content[0], near: whole.Content[0]}
	changed, err := r.object(file, top, o, 0)
	if err != nil || !changed {
		return d.text, err
	}
	if body, ok := jsontext.Body(d.text); ok {
		return encodedJSON(d.text[:len(d.text)-len(body)], body, whole)
	}
	return encoded(d.text, whole)
}

// shift makes lines count from the file's beginning.
func shift(n *yaml.Node, by int) {
	n.Line += by
	for _, c := range n.Content {
		shift(c, by)
	}
}

// object injects one object, or the items of a List.
func (r *Result) object(file string, top field, o Options, depth int) (changed bool, err error) {
	kind, version := top.at("kind").text(), top.at("apiVersion").text()
	meta := top.at("metadata")
	t := &template{file: file, object: nameOf(kind, meta), owner: meta, revision: meta.at("name").text(), options: o}
	switch {
	case kind == "List" && version == "v1" && depth < mostDepth:
		for _, item := range top.at("items").items() {
			one, err := r.object(file, item, o, depth+1)
			if err != nil {
				return changed, err
			}
			changed = changed || one
		}
		return changed, nil
	case (kind == "Deployment" || kind == "StatefulSet") && version == "apps/v1":
		t.root = top.at("spec").at("template")
	case kind == "Pod" && version == "v1":
		t.root, t.revision = top, revisionOfPod(meta)
	default:
		r.other(t, top)
		return false, nil
	}
	done, do := &r.Injected, t.run
	if !t.asked() {
		if !t.optedOut() || !t.injected() {
			r.Left = append(r.Left, t.object)
			return false, nil
		}
		done, do = &r.TakenOut, t.takeOut
	}
	if t.duplicates(top); len(t.faults) == 0 {
		if err := do(); err != nil {
			return false, err
		}
	}
	r.Faults = append(r.Faults, t.faults...)
	if len(t.faults.severe()) == 0 {
		*done = append(*done, t.object)
	}
	return t.changed, nil
}

// duplicates names keys that a mapping has twice: of the two, decoders take the one or the other.
func (t *template) duplicates(at field) {
	for _, item := range at.items() {
		t.duplicates(item)
	}
	if at.node == nil || at.node.Kind != yaml.MappingNode {
		return
	}
	first := make(map[string]int)
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, value := at.node.Content[i], resolved(at.node.Content[i+1])
		here := field{node: value, near: key, path: join(at.path, key.Value)}
		if line, twice := first[key.Value]; twice {
			t.fault(here, fmt.Sprintf("is written twice, first in line %d", line), "keep one of them")
			continue
		}
		first[key.Value] = key.Line
		t.duplicates(here)
	}
}

// other warns of a workload that asks for a sidecar and is of a kind that gets none here, and of lists of another kind than List.
func (r *Result) other(t *template, top field) {
	if kind, ok := strings.CutSuffix(top.at("kind").text(), "List"); ok && slices.Contains([]string{"Deployment", "StatefulSet", "Pod"}, kind) {
		t.warn(top.at("kind"), "typed lists are not injected into, and it is left as it is", "make it apiVersion: v1, kind: List, and give each item its apiVersion and kind")
		r.Faults = append(r.Faults, t.faults...)
		return
	}
	if t.root = podsOf(top); t.root.node == nil {
		return
	}
	switch at := t.wish(); {
	case at.text() == "enabled" || at.text() == "true":
		t.warn(at, "only Deployments, StatefulSets and Pods are injected into, and it is left as it is",
			"the webhook injects into the pods of every kind, as they are made")
	case at.text() == "" && !ofKnative(top) && controller(t.owner).node == nil && t.workload().OptedIn():
		t.warn(t.annotation(config.PrefixAutoscaling+"class"), "only Deployments and StatefulSets are scaled, and it is left as it is", "remove the annotation, or make it one of them")
	}
	r.Faults = append(r.Faults, t.faults...)
}

// podsOf is what a workload of any kind makes its pods from.
func podsOf(top field) field {
	if job := top.at("spec").at("jobTemplate"); job.node != nil { // a CronJob's
		return job.at("spec").at("template")
	}
	return top.at("spec").at("template")
}

// ofKnative says whether an object is Knative's, whose classes mean its own autoscalers.
func ofKnative(top field) bool {
	group, _, _ := strings.Cut(top.at("apiVersion").text(), "/")
	return group == "knative.dev" || strings.HasSuffix(group, ".knative.dev")
}

// controller is the reference to who made an object, as a Deployment makes ReplicaSets with its own annotations.
func controller(meta field) field {
	for _, o := range meta.at("ownerReferences").items() {
		if o.at("controller").text() == "true" {
			return o
		}
	}
	return field{}
}

// wish is what the workload or its pods say about injection.
func (t *template) wish() field {
	if at := t.annotation(Inject); at.text() != "" {
		return at
	}
	return t.root.at("metadata").at("labels").at(Inject)
}

// asked says whether the workload wants a sidecar: by the annotation or the pods' label, by being opted in to scaling, or
// because all do. One whose wish can't be understood is asked about again, in run.
func (t *template) asked() bool {
	switch t.wish().text() {
	case "":
	case "disabled", "false":
		return false
	default:
		return true
	}
	if t.options.wished {
		return false
	}
	return t.workload().OptedIn() || t.options.All && t.owner.at("labels").at(config.PrefixServing+"revision").text() == ""
}

func (t *template) workload() *workload.Object {
	return &workload.Object{Annotations: annotationsOf(t.owner, t.root), Labels: t.owner.at("labels").strings()}
}

// revisionOfPod names the workload that a pod belongs to: that of its controller, without what a Deployment adds.
func revisionOfPod(meta field) string {
	hash := meta.at("labels").at("pod-template-hash").text()
	if o := controller(meta); o.node != nil {
		return strings.TrimSuffix(o.at("name").text(), "-"+hash)
	}
	if name := meta.at("name").text(); name != "" {
		return name
	}
	return strings.TrimSuffix(strings.TrimSuffix(meta.at("generateName").text(), "-"), "-"+hash)
}
