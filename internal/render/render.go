package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/jsontext"
)

// Options say what is rendered besides Deployments and Services.
type Options struct {
	// Namespace is given to services that name none, default "default".
	Namespace string
	// SystemNamespace is where control runs, default rouse-system.
	SystemNamespace string
	// MetricsNamespace is where Prometheus runs, which NetworkPolicies let reach the sidecars' metrics; empty for nobody but
	// the system's namespace.
	MetricsNamespace string
	// Sidecar is how the queue-proxy is injected; nil leaves it to the webhook.
	Sidecar *inject.Options
	// NetworkPolicy keeps everybody away from the applications' own ports: clients reach queue-proxies only.
	NetworkPolicy bool
	// Gateway, "NAME" or "NAMESPACE/NAME", is the Gateway that HTTPRoutes are attached to; empty renders none.
	Gateway string
	// Domain of public hosts, NAME.NAMESPACE.DOMAIN; default example.com, as Knative's.
	Domain string
}

// Default returns the options with every zero field that has a default replaced by it.
func (o Options) Default() Options {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Namespace, "default")
	def(&o.SystemNamespace, "rouse-system")
	def(&o.Domain, "example.com")
	return o
}

// Result is a rendered file.
type Result struct {
	YAML     []byte
	Warnings []string
}

// File renders one file.
func File(name string, text []byte, o Options) (Result, error) {
	o = o.Default()
	r := renderer{file: name, options: o}
	for i, d := range documents(text) {
		objects, verbatim := r.document(i+1, d.text)
		if verbatim {
			r.keep(d)
		}
		_, isJSON := jsontext.Body(d.text)
		for _, obj := range objects {
			if err := r.add(obj, isJSON); err != nil {
				return Result{}, err
			}
		}
	}
	if len(r.faults) > 0 {
		return Result{Warnings: r.warnings}, errors.Join(r.faults...)
	}
	return Result{YAML: r.out.Bytes(), Warnings: r.warnings}, nil
}

// write puts a document behind the others, as it is.
func (r *renderer) write(doc []byte) {
	if r.out.Len() > 0 {
		if r.out.Bytes()[r.out.Len()-1] != '\n' {
			r.out.WriteByte('\n')
		}
		r.out.WriteString("---\n")
	}
	r.out.Write(doc)
}

// add writes an object that was rendered, as JSON when its service was JSON. Its faults are named by the file, not by a line of
// what was rendered.
func (r *renderer) add(obj map[string]any, asJSON bool) error {
	text, err := encoded(obj, asJSON)
	if err != nil || r.options.Sidecar == nil {
		r.write(text)
		return err
	}
	sidecar := *r.options.Sidecar
	sidecar.KnativeProbes = true
	res, err := inject.Manifest(r.file, text, sidecar)
	for i := range res.Faults {
		res.Faults[i].File = ""
	}
	r.heed(r.file+": ", res.Faults)
	r.write(res.YAML)
	return err
}

// keep writes a document that is not rendered. A workload that is opted in gets its sidecar, too.
func (r *renderer) keep(d document) {
	if r.options.Sidecar == nil {
		r.write(d.text)
		return
	}
	res, err := inject.Part(r.file, d.line, d.text, *r.options.Sidecar)
	if err != nil {
		r.faults = append(r.faults, err)
	}
	r.heed("", res.Faults)
	r.write(res.YAML)
}

// heed takes over what injection has said.
func (r *renderer) heed(prefix string, faults inject.Faults) {
	for _, f := range faults {
		line := prefix + f.Error()
		if f.Minor {
			r.warnings = append(r.warnings, line)
		} else {
			r.faults = append(r.faults, errors.New(line))
		}
	}
}

func encoded(obj map[string]any, asJSON bool) ([]byte, error) {
	if !asJSON {
		return yaml.Marshal(obj)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(obj); err != nil {
		return nil, err
	}
	return jsontext.ForYAML(b.Bytes()), nil
}

// document is a part of a file, without its marker.
type document struct {
	text []byte
	line int // of the file, before the part
}

// documents cuts at the markers between documents, which a comment or the beginning of the document may follow.
func documents(text []byte) (all []document) {
	var d document
	number := 0
	for line := range bytes.Lines(text) {
		if isMarker(line, "---") || isMarker(line, "...") {
			all, d = append(all, d), document{line: number}
			if line = bytes.TrimLeft(line[len("---"):], " \t"); len(bytes.TrimSpace(line)) == 0 {
				line, d.line = nil, number+1
			}
		}
		d.text = append(d.text, line...)
		number++
	}
	return append(all, d)
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// alone says that nothing follows a document: the parser reads the first one and leaves the rest. Only behind a closing brace
// or bracket can it do so, and within further brackets nothing can stand there without a comma.
func alone(doc []byte) bool {
	if d := bytes.TrimSpace(doc); len(d) == 0 || d[0] != '{' && d[0] != '[' {
		return true
	}
	var list []any
	return yaml.Unmarshal(slices.Concat([]byte("["), doc, []byte("\n]")), &list) == nil
}

type renderer struct {
	file     string
	options  Options
	out      bytes.Buffer
	faults   []error
	warnings []string
}

func (r *renderer) fault(what, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s: %s: %s", r.file, what, fmt.Sprintf(format, args...)))
}

func (r *renderer) warn(what, format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s: %s: %s", r.file, what, fmt.Sprintf(format, args...)))
}

// document renders one document, or says that it is to stay as it is.
func (r *renderer) document(number int, doc []byte) (objects []map[string]any, verbatim bool) {
	where := fmt.Sprintf("document %d", number)
	doc = jsontext.ForYAML(doc)
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		r.fault(where, "%v", err)
		return nil, false
	}
	if !alone(doc) {
		r.fault(where, "something follows it without a marker; put a line --- between documents")
		return nil, false
	}
	switch {
	case strings.HasPrefix(head.APIVersion, "serving.knative.dev/") && head.Kind == "Service":
		var s service
		if err := yaml.Unmarshal(doc, &s); err != nil {
			r.fault(where, "%v", err)
			return nil, false
		}
		return r.service(&s), false
	case head.APIVersion == "v1" && head.Kind == "ConfigMap" && head.Metadata.Name == "config-autoscaler":
		var cm map[string]any
		if err := yaml.Unmarshal(doc, &cm); err != nil {
			r.fault(where, "%v", err)
			return nil, false
		}
		if meta, ok := cm["metadata"].(map[string]any); ok {
			meta["namespace"] = r.options.SystemNamespace
		}
		return []map[string]any{cm}, false
	case head.APIVersion == "v1" && head.Kind == "List":
		return r.list(number, doc)
	}
	return nil, head.Kind != ""
}

// list renders the items of a List, as kubectl prints several objects. One without anything to render stays as it is.
func (r *renderer) list(number int, doc []byte) (objects []map[string]any, verbatim bool) {
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(doc, &list); err != nil {
		r.fault(fmt.Sprintf("document %d", number), "%v", err)
		return nil, false
	}
	verbatim = true
	for _, item := range list.Items {
		if kind, _ := item["kind"].(string); kind == "List" || kind == "" { // nobody nests them, and the API server judges the rest
			objects = append(objects, item)
			continue
		}
		text, err := yaml.Marshal(item)
		if err != nil {
			r.fault(fmt.Sprintf("document %d", number), "%v", err)
			return nil, false
		}
		rendered, asItWas := r.document(number, text)
		if asItWas {
			rendered = []map[string]any{item}
		}
		objects, verbatim = append(objects, rendered...), verbatim && asItWas
	}
	if verbatim {
		return nil, true
	}
	return objects, false
}
