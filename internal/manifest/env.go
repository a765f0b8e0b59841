package manifest

import (
	"encoding/base64"
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
	o.unbuilt("is not read yet; write the variables under env", "envFrom")
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
		if o, ok := from.object(); ok {
			l.valueFrom(o, index)
		}
	}
	return v
}

// valueFrom notes a reference to a key of a ConfigMap or Secret.
func (l *loader) valueFrom(o *object, index int) {
	defer o.done()
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

// resolveReferences fills in what valueFrom names.
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
			r.at.errorf("add it to the files, or write the value itself", "%s %s/%s is not in the manifests", r.kind, r.at.obj.Namespace, clip(r.name))
		default:
			r.at.errorf("add it there, or write the value itself", "%s %s/%s has no key %q", r.kind, r.at.obj.Namespace, clip(r.name), clip(r.key))
		}
	}
}

// dropUnset takes optional variables out whose key nobody defines: they are not set, rather than empty.
func (l *loader) dropUnset() {
	for i := range l.set.Services {
		cs := l.set.Services[i].Template.Containers
		for j := range cs {
			cs[j].Env = slices.DeleteFunc(cs[j].Env, func(e EnvVar) bool { return e.unset })
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
