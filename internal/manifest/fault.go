package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// Severity says what a fault means for the run.
type Severity uint8

// The severities.
const (
	Warning Severity = iota // goes on; Options.Strict makes it an Error
	Error                   // the object cannot be run as written
)

// String returns "warning" or "error".
func (s Severity) String() string { return [...]string{"warning", "error"}[s] }

// Fault is one thing that is wrong with a manifest, or that has no effect.
type Fault struct {
	Severity Severity
	File     string
	Line     int    // 1-based; 0 when the fault has no place in the file
	Object   string // "Service default/hello", empty when not known yet
	Path     string // field path, such as spec.template.spec.containers[0].image
	Text     string // what was found and what is allowed
	Remedy   string // what to do about it; may be empty
}

// Where returns "file:line", or the file alone.
func (f Fault) Where() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// String returns the fault in one line, the way compilers do.
func (f Fault) String() string {
	var b strings.Builder
	if where := f.Where(); where != "" {
		b.WriteString(where + ": ")
	}
	b.WriteString(f.Severity.String() + ": ")
	for _, s := range []string{f.Object, f.Path} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	b.WriteString(f.Text)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Diagnostics are the faults of one load, in the order of files and lines.
type Diagnostics []Fault

// Errors returns the faults that forbid a run.
func (d Diagnostics) Errors() Diagnostics { return d.only(Error) }

// Warnings returns the faults that a run goes on with.
func (d Diagnostics) Warnings() Diagnostics { return d.only(Warning) }

func (d Diagnostics) only(s Severity) Diagnostics {
	var out Diagnostics
	for _, f := range d {
		if f.Severity == s {
			out = append(out, f)
		}
	}
	return out
}

// Err returns nil when nothing forbids a run, else one error whose text has a line per error.
func (d Diagnostics) Err() error {
	if errs := d.Errors(); len(errs) > 0 {
		return errors.New(errs.String())
	}
	return nil
}

// String returns one line per fault.
func (d Diagnostics) String() string {
	lines := make([]string, len(d))
	for i, f := range d {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}
