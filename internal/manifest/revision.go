package manifest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
)

// RevisionName returns the name of the revision that the given generation of the service makes: the template's own
// name, else "<service>-00001" and so on.
func (s *Service) RevisionName(generation int64) string {
	if s.Template.Name != "" {
		return s.Template.Name
	}
	return childName(s.Name, fmt.Sprintf("-%05d", generation))
}

// childName joins a name and a suffix the way Knative does, so that both make the same objects: a name too long
// for a label is cut and made unique by its MD5.
func childName(parent, suffix string) string {
	if len(parent)+len(suffix) <= maxLabel {
		return parent + suffix
	}
	sum := md5.Sum([]byte(parent))
	keep := max(0, maxLabel-2*md5.Size-len(suffix))
	return parent[:keep] + hex.EncodeToString(sum[:]) + suffix
}

// Revision returns the identity of the revision that the given generation makes.
func (s *Service) Revision(generation int64, uid string) identity.Revision {
	return identity.Revision{Namespace: s.Namespace, Name: s.RevisionName(generation), UID: uid, Generation: generation}
}

// Hash returns the same text for templates that run the same: a service whose hash has not changed needs no new
// revision. The name that the user gave the revision does not count, nor do annotations that take effect on a running
// revision (config.LiveAnnotation); labels and other annotations do.
func (t *Template) Hash() string {
	anonymous := *t
	anonymous.Name = ""
	anonymous.Annotations = maps.Clone(t.Annotations)
	maps.DeleteFunc(anonymous.Annotations, func(key, _ string) bool { return config.LiveAnnotation(key) })
	if len(anonymous.Annotations) == 0 {
		anonymous.Annotations = nil // no annotations are the same however they came to be none
	}
	// Maps are written in the order of their keys, so equal templates give equal bytes; plain fields cannot fail.
	data, err := json.Marshal(anonymous)
	if err != nil {
		panic("manifest: a template of plain fields does not encode: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// ResolveTraffic replaces latestRevision by its name and joins rows of the same revision and tag. A row that names a
// revision that does not exist is a fault of its line.
func (s *Service) ResolveTraffic(latest string, exists func(revision string) bool) ([]TrafficTarget, Diagnostics) {
	var out []TrafficTarget
	var diags Diagnostics
	for i, t := range s.Traffic {
		if t.LatestRevision {
			t.RevisionName = latest
		} else if !exists(t.RevisionName) {
			path := fmt.Sprintf("spec.traffic[%d].revisionName", i)
			diags = append(diags, Fault{Error, s.pos.file, s.pos.lineOf(path), s.String(), path,
				fmt.Sprintf("there is no revision %q", clip(t.RevisionName)), "apply the version that makes it first, or change the row"})
			continue
		}
		out = append(out, t)
	}
	return out, diags
}
