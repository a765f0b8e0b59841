package localpods

import (
	"slices"
	"strconv"
	"strings"
)

// markerName is the variable by which a process that left its parent, group and session is still found.
const markerName = "ROUSE_POD"

// environ is an ordered set of variables; the last value of a name wins.
type environ struct {
	names  []string
	values map[string]string
}

func newEnviron(base []string) *environ {
	e := &environ{values: make(map[string]string, len(base)+8)}
	for _, entry := range base {
		name, value, ok := strings.Cut(entry, "=")
		if ok && name != "PORT" && !strings.HasPrefix(name, "K_") && name != markerName {
			e.set(name, value)
		}
	}
	return e
}

func (e *environ) set(name, value string) {
	if _, known := e.values[name]; !known {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environ) entries() []string {
	out := make([]string, len(e.names))
	for i, name := range e.names {
		out[i] = name + "=" + e.values[name]
	}
	return out
}

// appCommand returns the arguments and the environment of a pod's application. What the runner chooses comes first, so
// that the container's own variables can refer to it, and is set again last, so that they cannot change it.
func appCommand(spec *Spec, base []string, uid string, port uint16) (argv, env []string) {
	own := [][2]string{
		{"PORT", strconv.Itoa(int(port))}, {"K_SERVICE", spec.Service}, {"K_CONFIGURATION", spec.Configuration},
		{"K_REVISION", spec.Revision.Name}, {markerName, uid},
	}
	for _, name := range spec.PortEnv {
		own = append(own, [2]string{name, own[0][1]})
	}
	e := newEnviron(base)
	for _, v := range own {
		e.set(v[0], v[1])
	}
	for _, entry := range spec.Env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			e.set(name, e.expand(value))
		}
	}
	for _, v := range own {
		e.set(v[0], v[1])
	}
	argv = slices.Clone(spec.Argv)
	for i := range argv {
		argv[i] = e.expand(argv[i])
	}
	return argv, e.entries()
}

// expand replaces $(NAME) as Kubernetes does in commands, arguments and variables: $$ stands for one dollar, and a
// name that is not set is left as written.
func (e *environ) expand(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteString(s[i:])
				return b.String()
			}
			if v, ok := e.values[s[i+2:i+end]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
