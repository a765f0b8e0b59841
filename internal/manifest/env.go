package manifest

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
)

// reservedEnv are set by Rouse itself for every process.
var reservedEnv = []string{"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}

// reference is an environment variable that names a key of another object, which may come later in the files.
type reference struct {
	at       cursor
	index    int // in its container's env
	target   *EnvVar
	kind     string // ConfigMap or Secret
	name     string
	key      string
	optional bool
}

// env reads a container's environment; references are resolved when all documents are read.
func (l *loader) env(o *object) []EnvVar {
	c, ok := o.take("env")
	if !ok {
		return nil
	}
	var out []EnvVar
	start := len(l.refs)
	c.each(func(_ int, item cursor) {
		if e, ok := item.object(); ok {
			out = append(out, l.envVar(e, len(out)))
		}
	})
	for i := range l.refs[start:] {
		r := &l.refs[start+i]
		r.target = &out[r.index]
	}
	return out
}

func (l *loader) envVar(e *object, index int) EnvVar {
	defer e.done()
	v := EnvVar{Value: e.text("value")}
	if n, ok := e.need("name", "name the variable"); ok {
		v.Name, _ = n.text()
		if strings.ContainsAny(v.Name, "=\x00") {
			n.errorf("", "is %q, must not hold '='", clip(v.Name))
		}
		if slices.Contains(reservedEnv, v.Name) {
			n.errorf("leave it out: Rouse sets it for every process", "is %s, which is reserved", v.Name)
		}
	}
	if from, ok := e.take("valueFrom"); ok {
		if v.Value != "" {
			from.errorf("keep one of them", "value and valueFrom exclude each other")
		}
		if o, ok := from.object(); ok {
			l.valueFrom(o, index)
		}
	}
	return v
}

// valueFrom notes a reference to a key of a ConfigMap or Secret. What is for a cluster is read there.
func (l *loader) valueFrom(o *object, index int) {
	defer o.done()
	if l.opts.Cluster {
		o.oneSource(valueSources)
		return
	}
	for _, f := range [][2]string{{"configMapKeyRef", "ConfigMap"}, {"secretKeyRef", "Secret"}} {
		at, ok := o.take(f[0])
		if !ok {
			continue
		}
		if ref, ok := at.object(); ok {
			r := reference{at: at, index: index, kind: f[1], name: ref.text("name"), key: ref.text("key")}
			if opt, ok := ref.take("optional"); ok {
				r.optional, _ = opt.boolean()
			}
			ref.done()
			l.refs = append(l.refs, r)
		}
	}
	for _, name := range []string{"fieldRef", "resourceFieldRef", "fileKeyRef"} {
		if f, ok := o.take(name); ok {
			f.errorf("write the value itself under value", "a local process has no such field")
		}
	}
}

// bulk is one item of envFrom: every key of an object becomes a variable.
type bulk struct {
	at       cursor
	index    int // of its container
	target   *Container
	kind     string
	name     string
	prefix   string
	optional bool
}

// envFrom notes the objects whose keys a container takes as variables.
func (l *loader) envFrom(o *object, index int) {
	c, ok := o.take("envFrom")
	if !ok {
		return
	}
	c.each(func(_ int, item cursor) {
		from, ok := item.object()
		if !ok {
			return
		}
		defer from.done()
		prefix := from.text("prefix")
		if l.opts.Cluster {
			from.oneSource(bulkSources)
			return
		}
		for _, f := range [][2]string{{"configMapRef", "ConfigMap"}, {"secretRef", "Secret"}} {
			at, ok := from.take(f[0])
			if !ok {
				continue
			}
			if ref, ok := at.object(); ok {
				b := bulk{at: at, index: index, kind: f[1], name: ref.text("name"), prefix: prefix}
				if opt, ok := ref.take("optional"); ok {
					b.optional, _ = opt.boolean()
				}
				ref.done()
				l.bulks = append(l.bulks, b)
			}
		}
	})
}

// resolveReferences fills in what valueFrom and envFrom name.
func (l *loader) resolveReferences() {
	for _, r := range l.refs {
		data, ok := l.data(r.kind, r.at.obj.Namespace, r.name)
		value, has := data[r.key]
		switch {
		case has:
			r.target.Value = value
		case r.optional:
			r.target.unset = true
		case !ok:
			r.at.notThere(r.kind, r.name)
		default:
			r.at.errorf("add it there, or write the value itself", "%s %s/%s has no key %q", r.kind, r.at.obj.Namespace, clip(r.name), clip(r.key))
		}
	}
	bulks := make(map[*Container][]EnvVar)
	for _, b := range l.bulks {
		data, ok := l.data(b.kind, b.at.obj.Namespace, b.name)
		if !ok && !b.optional {
			b.at.notThere(b.kind, b.name)
		}
		for _, key := range slices.Sorted(maps.Keys(data)) {
			bulks[b.target] = append(bulks[b.target], EnvVar{Name: b.prefix + key, Value: data[key]})
		}
	}
	for c, vars := range bulks {
		c.Env = slices.Concat(vars, c.Env)
	}
}

func (c cursor) notThere(kind, name string) {
	c.errorf("add it to the files, or write the value itself", "%s %s/%s is not in the manifests", kind, c.obj.Namespace, clip(name))
}

// tidyEnv takes out optional variables whose key nobody defines, which are not set rather than empty, and all but
// the last of those with the same name, as Kubernetes does.
func (l *loader) tidyEnv() {
	for i := range l.set.Services {
		cs := l.set.Services[i].Template.Containers
		for j := range cs {
			last := map[string]int{}
			for k, e := range cs[j].Env {
				last[e.Name] = k
			}
			var env []EnvVar
			for k, e := range cs[j].Env {
				if !e.unset && last[e.Name] == k {
					env = append(env, e)
				}
			}
			cs[j].Env = env
		}
	}
}

// data finds the keys of an object of the same namespace, which is as far as Kubernetes lets a reference reach.
func (l *loader) data(kind, namespace, name string) (map[string]string, bool) {
	from := l.set.ConfigMaps
	if kind == "Secret" {
		from = l.secrets
	}
	i := slices.IndexFunc(from, func(c ConfigMap) bool { return c.Namespace == namespace && c.Name == name })
	if i < 0 {
		return nil, false
	}
	return from[i].Data, true
}

// secret reads a Secret for the references to it.
func (l *loader) secret(o *object) {
	_, _, ok := l.metadata(o, false)
	data := o.textMap("data")
	for key, enc := range data {
		plain, err := base64.StdEncoding.DecodeString(enc)
		if err != nil {
			at := o.cursor
			at.path = "data[" + key + "]"
			at.errorf("encode it, or move it to stringData", "is not base64")
		}
		data[key] = string(plain)
	}
	for key, v := range o.textMap("stringData") {
		if data == nil {
			data = map[string]string{}
		}
		data[key] = v
	}
	o.skip("type", "immutable")
	o.done()
	if ok {
		l.secrets = append(l.secrets, ConfigMap{*o.obj, data})
	}
}
