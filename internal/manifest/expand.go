package manifest

import (
	"slices"
	"strings"
)

// Expand returns the command line and the environment of one process, with Kubernetes' $(NAME) replaced: in a value
// by variables that stand before it, in the command line by all. fixed are the variables that Rouse sets; they come
// first and win over the container's.
func (c *Container) Expand(argv []string, fixed ...EnvVar) (expanded, environ []string) {
	values := make(map[string]string, len(fixed)+len(c.Env))
	for _, e := range fixed {
		values[e.Name] = e.Value
		environ = append(environ, e.Name+"="+e.Value)
	}
	for _, e := range c.Env {
		if slices.ContainsFunc(fixed, func(f EnvVar) bool { return f.Name == e.Name }) {
			continue
		}
		values[e.Name] = expand(e.Value, values)
		environ = append(environ, e.Name+"="+values[e.Name])
	}
	for _, a := range argv {
		expanded = append(expanded, expand(a, values))
	}
	return expanded, environ
}

// expand replaces $(NAME); $$ is a dollar that starts nothing, and a name that is not set is left as it stands.
func expand(s string, values map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			if v, ok := values[s[2:end]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}
