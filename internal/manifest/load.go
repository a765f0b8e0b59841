package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/jsontext"
)

// Bounds of one load.
const (
	maxBytes  = 8 << 20 // of one source
	maxFaults = 1000    // reported; beyond it the list ends with a line that says so
	tooLong   = "is longer than 8 MiB"
)

// Source is one manifest file.
type Source struct {
	Name string // as faults name it
	Data []byte
	// Stream says that the data was a stream of JSON objects: Open has put a marker before each, "--- {…}".
	Stream bool
}

// Open reads files, directories (their own *.yaml, *.yml and *.json, in order of name; see [PassedOver]) and "-", which is stdin. What is longer
// than [Load] takes is an error: a part of it must not pass for the whole. A stream of JSON objects becomes documents.
func Open(stdin io.Reader, paths ...string) ([]Source, error) {
	var out []Source
	for _, p := range paths {
		found, err := open(stdin, p)
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func open(stdin io.Reader, path string) ([]Source, error) {
	if path == "-" {
		s, err := readAll("stdin", stdin)
		return []Source{s}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		s, err := read(path)
		return []Source{s}, err
	}
	return openDir(path)
}

func openDir(dir string) ([]Source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Source
	for _, e := range entries {
		if e.IsDir() || !slices.Contains(extensions, filepath.Ext(e.Name())) {
			continue
		}
		s, err := read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, &fs.PathError{Op: "read", Path: dir, Err: errors.New("no *.yaml, *.yml or *.json in it")}
	}
	return out, nil
}

func read(path string) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	return readAll(path, f)
}

func readAll(name string, r io.Reader) (Source, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err == nil && len(data) > maxBytes {
		err = fmt.Errorf("%s %s; divide it", name, tooLong)
	}
	if err != nil {
		return Source{}, err
	}
	documents, stream := separated(data)
	return Source{Name: name, Data: documents, Stream: stream}, nil
}

// Options say how to load.
type Options struct {
	// Strict turns every warning into an error.
	Strict bool
	// Cluster says that the manifests are for a cluster: what local processes lack is no warning, and what pods take from
	// Secrets, ConfigMaps and fields is not looked up.
	Cluster bool
	// Namespace is given to objects that name none. Empty means "default".
	Namespace string
	// InterceptorRoutes says that the caller serves the HTTP add-on's routes; else they are warned of as not built.
	InterceptorRoutes bool
	// Others are kinds that the caller decodes itself, as "group/Kind" such as "sources.knative.dev/KafkaSource". They
	// are handed on in Set.Others, and count as something to run.
	Others []string
	// Images, when set, must be able to say what each service runs; what it can't is a fault of the image's line.
	Images *Images
}

// Load decodes every document of every source. The set holds what is valid; with errors among the diagnostics it is
// for tools that show it, not to be run. It is an error when nothing is left that can run.
func Load(sources []Source, opts Options) (*Set, Diagnostics) {
	if opts.Namespace == "" {
		opts.Namespace = "default"
	}
	l := &loader{opts: opts, set: &Set{}, budget: nodeBudget, seen: map[string]string{}}
	for _, s := range sources {
		l.source(s)
	}
	l.resolveReferences()
	l.tidyEnv()
	l.checkTargets()
	l.checkSettings()
	l.checkImages()
	l.checkRunnable(sources)
	l.sort(sources)
	return l.set, l.diags
}

// loader is what all decoders of one Load share.
type loader struct {
	opts   Options
	set    *Set
	diags  Diagnostics
	budget int
	seen   map[string]string // object title → where it was first
	refs   []reference
	bulks  []bulk
	// targets are the services that routes name.
	targets []routeTarget
	// secrets are kept for references only: a Set hands no secrets out.
	secrets []ConfigMap
}

func (l *loader) add(f Fault) {
	if l.opts.Strict {
		f.Severity = Error
	}
	switch {
	case len(l.diags) < maxFaults:
		l.diags = append(l.diags, f)
	case len(l.diags) == maxFaults:
		l.diags = append(l.diags, Fault{Severity: Error, File: f.File, Line: f.Line, Text: "too many faults; the rest is not shown"})
	}
}

// sort puts faults that were found late, such as those of references, where their line belongs.
func (l *loader) sort(sources []Source) {
	order := make(map[string]int, len(sources))
	for i, s := range sources {
		order[s.Name] = i
	}
	slices.SortStableFunc(l.diags, func(a, b Fault) int {
		if d := order[a.File] - order[b.File]; d != 0 {
			return d
		}
		return cmp.Compare(uint(a.Line-1), uint(b.Line-1)) // no line sorts last
	})
}

func (l *loader) source(s Source) {
	if len(s.Data) > maxBytes {
		l.add(Fault{Severity: Error, File: s.Name, Text: tooLong})
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(jsontext.ForYAML(s.Data)))
	for l.budget > 0 {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			l.add(syntaxFault(s.Name, err))
			return
		}
		for _, n := range doc.Content {
			l.document(s.Name, n, 0)
		}
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// placeless are words in faults whose line the decoder does not know.
var placeless = []string{"anchor", "control characters", "UTF-"}

// syntaxFault takes the line out of the decoder's text.
func syntaxFault(file string, err error) Fault {
	text := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	if line == 0 && !slices.ContainsFunc(placeless, func(s string) bool { return strings.Contains(text, s) }) {
		line = 1 // the decoder counts from 0, and is silent about that
	}
	return Fault{Severity: Error, File: file, Line: line, Text: "not valid YAML: " + text,
		Remedy: "this document and those after it in the file are not read"}
}

// maxLists bounds how deep List documents may nest.
const maxLists = 4

// document decodes one object, or the items of a List.
func (l *loader) document(file string, n *yaml.Node, depth int) {
	obj := &Object{pos: positions{file: file, line: n.Line, lines: map[string]int{}}}
	c := cursor{l, obj, "", n}
	for hops := 0; c.node.Kind == yaml.AliasNode && hops < 100; hops++ {
		c.node = c.node.Alias
	}
	if c.null() {
		return // an empty document
	}
	o, ok := c.object()
	if !ok {
		return
	}
	obj.APIVersion = o.text("apiVersion")
	obj.Kind = o.text("kind")
	if obj.APIVersion == "" || obj.Kind == "" {
		c.errorf("every document starts with both", "apiVersion or kind is missing")
		return
	}
	if obj.Kind == "List" && obj.APIVersion == "v1" && depth < maxLists {
		if items, ok := o.take("items"); ok {
			items.each(func(_ int, item cursor) { l.document(file, item.node, depth+1) })
		}
		return
	}
	l.object(o)
}

// object decodes by kind.
func (l *loader) object(o *object) {
	switch id := o.obj.APIVersion + "/" + o.obj.Kind; {
	case id == "serving.knative.dev/v1/Service":
		l.service(o)
	case id == "v1/ConfigMap":
		l.configMap(o)
	case id == "v1/Secret":
		l.secret(o)
	case id == "http.keda.sh/v1beta1/InterceptorRoute" && l.opts.InterceptorRoutes:
		l.interceptorRoute(o)
	case l.handsOn(o.obj):
		l.other(o)
	default:
		l.skipped(o)
	}
}

// handsOn reports whether the caller decodes this kind itself.
func (l *loader) handsOn(obj *Object) bool {
	group, _, _ := strings.Cut(obj.APIVersion, "/")
	return slices.Contains(l.opts.Others, group+"/"+obj.Kind)
}

// other keeps a document as it is, under its name.
func (l *loader) other(o *object) {
	if _, _, ok := l.metadata(o, true); !ok {
		return
	}
	o.note(0)
	text, err := yaml.Marshal(o.node)
	if err != nil {
		o.errorf("", "cannot be written back: %v", err)
		return
	}
	l.set.Others = append(l.set.Others, Document{Object: *o.obj, YAML: text})
}

// checkRunnable reports when all went well but there is nothing to run.
func (l *loader) checkRunnable(sources []Source) {
	if len(l.set.Services)+len(l.set.Others) > 0 || len(l.diags.Errors()) > 0 {
		return
	}
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Name
	}
	f := Fault{Severity: Error, Text: "nothing to run: no serving.knative.dev/v1 Service in " + strings.Join(names, ", ")}
	if len(names) == 0 {
		f.Text = "nothing to run: no manifest given"
	}
	f.File = strings.Join(names[:min(1, len(names))], "")
	l.add(f)
}
