package inject

import (
	"fmt"
	"strings"
)

// Fault is one thing that keeps a workload from being injected, or, when it is Minor, that people should know.
type Fault struct {
	File   string
	Line   int    // 1-based
	Object string // "Deployment default/hello"
	Field  string // path, such as spec.template.spec.hostNetwork
	Text   string // what is wrong
	Remedy string
	Minor  bool
	// Told says that who judges manifests, as control judges workloads, finds the same: it is about a setting of a workload that is
	// opted in, or about what no API server takes.
	Told bool
}

// Error returns the fault in one line, the way compilers do.
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	}
	if f.Minor {
		b.WriteString("warning: ")
	}
	if f.Object != "" {
		b.WriteString(f.Object + ": ")
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Text)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Faults are several.
type Faults []Fault

// Error implements error.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// severe returns those that are not minor.
func (f Faults) severe() (s Faults) {
	for _, one := range f {
		if !one.Minor {
			s = append(s, one)
		}
	}
	return s
}
