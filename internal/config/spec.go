package config

import "strconv"

// specFields are the manifest's fields that a plain Deployment has no place for: it carries them as annotations.
var specFields = []struct {
	key, name string // the annotation's and the field's
	field     func(*Input) **int64
}{
	{PrefixRouse + "container-concurrency", "containerConcurrency", func(in *Input) **int64 { return &in.ContainerConcurrency }},
	{PrefixRouse + "timeout-seconds", "timeoutSeconds", func(in *Input) **int64 { return &in.TimeoutSeconds }},
	{PrefixRouse + "response-start-timeout-seconds", "responseStartTimeoutSeconds", func(in *Input) **int64 { return &in.ResponseStartTimeoutSeconds }},
	{PrefixRouse + "idle-timeout-seconds", "idleTimeoutSeconds", func(in *Input) **int64 { return &in.IdleTimeoutSeconds }},
}

// SpecAnnotations returns the annotations that [Input.SpecFromAnnotations] reads.
func SpecAnnotations() (keys []string) {
	for _, s := range specFields {
		keys = append(keys, s.key)
	}
	return keys
}

// SpecFromAnnotations fills the manifest's fields that are missing from the annotations of a plain Deployment:
//
//	rouse.dev/container-concurrency            as containerConcurrency
//	rouse.dev/timeout-seconds                  as timeoutSeconds
//	rouse.dev/response-start-timeout-seconds   as responseStartTimeoutSeconds
//	rouse.dev/idle-timeout-seconds             as idleTimeoutSeconds
//
// Their bounds are judged by [Resolve], whose origins and faults name the annotation.
func (in *Input) SpecFromAnnotations() (faults []Fault) {
	for _, s := range specFields {
		raw, ok := in.Annotations[s.key]
		field := s.field(in)
		if !ok || *field != nil {
			continue
		}
		n, err := strconv.ParseInt(raw, 10, 64)
		if err != nil {
			faults = append(faults, Fault{Key: s.key, Value: raw, Allowed: "a whole number", Where: in.Above.At.of(s.key)})
			continue
		}
		*field = &n
		if in.specKeys == nil {
			in.specKeys = make(map[string]string, len(specFields))
		}
		in.specKeys[s.name] = s.key
	}
	return faults
}

// specOrigin says where one of the manifest's fields was written: in its place, or as an annotation.
func (in *Input) specOrigin(field string) *Origin {
	if key, ok := in.specKeys[field]; ok {
		return &Origin{Source: Annotation, Key: key, Where: in.Above.At.of(key)}
	}
	return &Origin{Source: Spec, Key: field, Where: in.SpecAt.of(field)}
}
