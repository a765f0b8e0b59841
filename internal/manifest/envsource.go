package manifest

import (
	"slices"
	"strings"
)

// source is one way in which a pod takes variables from elsewhere, with the fields of Kubernetes' API.
type source struct {
	name     string
	needs    []string // texts that must be there
	may      []string // texts that may be there
	optional bool     // it has the field of that name
}

// The sources of valueFrom, and those of envFrom.
var (
	valueSources = []source{
		{name: "configMapKeyRef", needs: []string{"name", "key"}, optional: true},
		{name: "secretKeyRef", needs: []string{"name", "key"}, optional: true},
		{name: "fieldRef", needs: []string{"fieldPath"}, may: []string{"apiVersion"}},
		{name: "resourceFieldRef", needs: []string{"resource"}, may: []string{"containerName"}},
		{name: "fileKeyRef", needs: []string{"volumeName", "path", "key"}, optional: true},
	}
	bulkSources = []source{
		{name: "configMapRef", needs: []string{"name"}, optional: true},
		{name: "secretRef", needs: []string{"name"}, optional: true},
	}
)

// oneSource checks the shape of what only the pods of a cluster can read: it names exactly one source, whose fields are there.
func (o *object) oneSource(all []source) {
	var names []string
	written := 0
	for _, s := range all {
		names = append(names, s.name)
		c, ok := o.take(s.name)
		if !ok {
			continue
		}
		written++
		if ref, ok := c.object(); ok {
			ref.source(s)
			ref.done()
		}
	}
	if written != 1 {
		o.errorf("write one of "+strings.Join(names, ", "), "names %d sources, must be one", written)
	}
}

func (o *object) source(s source) {
	for _, name := range s.needs {
		if c, ok := o.need(name, ""); ok {
			c.text()
		}
	}
	for _, name := range s.may {
		o.text(name)
	}
	if s.optional {
		if c, ok := o.take("optional"); ok {
			c.boolean()
		}
	}
	if slices.Contains(s.needs, "resource") {
		o.skip("divisor") // a quantity, which is a text or a number
	}
}
