package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

// annotationsField is where our annotations stand.
const annotationsField = "metadata.annotations"

// Fault is one thing that is wrong with a manifest. It is an error whose text names the field.
type Fault struct {
	Field string // such as spec.delivery.retry
	Key   string // of an annotation, with Field metadata.annotations
	Text  string // what is wrong and what is allowed
}

// Path returns the field, an annotation's key in brackets.
func (f Fault) Path() string {
	if f.Key == "" {
		return f.Field
	}
	return f.Field + "[" + f.Key + "]"
}

// Error returns "field: text".
func (f Fault) Error() string {
	if f.Key == "" {
		return f.Field + ": " + f.Text
	}
	return f.Field + "." + f.Key + ": " + f.Text
}

// Faults are all that is wrong with a manifest.
type Faults []Fault

// Error returns a line per fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// fieldsOf makes faults of what a dispatcher says of its configuration: its words begin with the manifest's field.
func fieldsOf(err error) (faults Faults) {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, e := range several.Unwrap() {
			faults = append(faults, fieldsOf(e)...)
		}
		return faults
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	end := max(0, strings.IndexAny(text, ": "))
	return Faults{{Field: "spec." + text[:end], Text: strings.TrimLeft(text[end:], ": ")}}
}

// annotations are those that are read.
var annotations = []string{AnnotationOrder, AnnotationMode, AnnotationBatch, AnnotationLinger, AnnotationInFlight, AnnotationPartition,
	AnnotationExhausted, AnnotationDeadTopic, AnnotationReplyTopic, AnnotationReplyURL, AnnotationProtocol, AnnotationInstance,
	AnnotationCompat, AnnotationHTTP2, AnnotationPartitions}

// Unknown returns, in order, the annotations of our prefix that nothing reads, misspelt ones among them. They deserve a
// warning.
func (k *KafkaSource) Unknown() (found Faults) {
	for key := range k.Metadata.Annotations {
		if !strings.HasPrefix(key, config.PrefixRouse) || slices.Contains(annotations, key) {
			continue
		}
		meant := "it has no effect"
		if near := config.Nearest(key, annotations); near != "" {
			meant = "did you mean " + near + "?"
		}
		found = append(found, Fault{annotationsField, key, "nothing reads this annotation; " + meant})
	}
	slices.SortFunc(found, func(a, b Fault) int { return strings.Compare(a.Key, b.Key) })
	return found
}

// oneOf holds an annotation's value to a list.
func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	last := len(allowed) - 1
	list := allowed[last]
	if last > 0 {
		list = strings.Join(allowed[:last], ", ") + " or " + list
	}
	return fmt.Errorf("%q: must be %s", value, list)
}
