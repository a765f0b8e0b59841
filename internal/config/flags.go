package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ParseFlags reads what the flag --set of a command was given, each KEY=VALUE, as [Layers] take it. A key is that of an
// annotation, in either spelling and with or without its prefix, or a field of the manifest such as containerConcurrency.
// An unknown key is an error that names the one that may be meant.
func ParseFlags(pairs []string) (map[string]string, error) {
	known := flagKeys()
	flags := make(map[string]string, len(pairs))
	var errs []error
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			errs = append(errs, fmt.Errorf("--set %q: must be KEY=VALUE, such as max-scale=5 or containerConcurrency=1", pair))
			continue
		}
		bare, ok := known[key]
		if !ok {
			errs = append(errs, fmt.Errorf("--set %s: unknown setting; %s", key, insteadOf(key, known)))
			continue
		}
		flags[bare] = value
	}
	return flags, errors.Join(errs...)
}

// flagKeys maps every spelling of a setting that --set takes to its bare name.
func flagKeys() map[string]string {
	known := make(map[string]string)
	for _, s := range settings {
		for _, name := range []string{s.key, s.alias} {
			if s.prefix != "" && name != "" {
				known[name], known[s.prefix+name] = s.key, s.key
			}
		}
	}
	for _, s := range specFields {
		name := fieldName(s.key)
		known[name], known[s.key] = name, name
	}
	return known
}

// insteadOf says what to write for a key that --set does not take.
func insteadOf(key string, known map[string]string) string {
	for _, s := range settings {
		switch {
		case s.configMap != key:
		case s.prefix != "":
			return "did you mean " + s.key + "?"
		default:
			return "it is one of all services: write it into the ConfigMap config-autoscaler, beside the manifests"
		}
	}
	if near := Nearest(key, slices.Sorted(maps.Keys(known))); near != "" {
		return "did you mean " + near + "?"
	}
	return "known are " + strings.Join(slices.Compact(slices.Sorted(maps.Values(known))), ", ")
}

// fieldName is the manifest's field of an annotation that stands for one: containerConcurrency of
// rouse.dev/container-concurrency.
func fieldName(annotation string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(annotation, PrefixRouse), "-")
	for word := range strings.SplitSeq(rest, "-") {
		first += strings.ToUpper(word[:1]) + word[1:]
	}
	return first
}

// specFromFlags puts flags over the manifest's fields.
func (in *Input) specFromFlags() (faults []Fault) {
	for _, s := range specFields {
		name := fieldName(s.key)
		raw, ok := in.Above.Flags[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(raw, 10, 64)
		if err != nil {
			faults = append(faults, Fault{Key: flagged(name), Value: raw, Allowed: "a whole number"})
			continue
		}
		*s.field(in) = &n
	}
	return faults
}

// blame names the flag in the faults of fields that flags set.
func (in *Input) blame(faults []Fault) []Fault {
	for i, f := range faults {
		if _, ok := in.Above.Flags[f.Key]; ok {
			faults[i].Key, faults[i].Where = flagged(f.Key), ""
		}
	}
	return faults
}

// nameFlags gives the manifest's fields that flags set their origin.
func (rev *Revision) nameFlags(flags map[string]string) {
	for name, origin := range map[string]**Origin{
		"containerConcurrency": &rev.ContainerConcurrency.Origin, "timeoutSeconds": &rev.Timeout.Origin,
		"responseStartTimeoutSeconds": &rev.ResponseStartTimeout.Origin, "idleTimeoutSeconds": &rev.IdleTimeout.Origin,
	} {
		if _, ok := flags[name]; ok {
			*origin = &Origin{Source: Flag, Key: name}
		}
	}
}

// written is the setting's key as whoever set it wrote it.
func (o *Origin) written() string {
	switch o.Source {
	case Flag:
		return flagged(o.Key)
	case Env:
		return variable(o.Key)
	default:
		return o.Key
	}
}

func flagged(key string) string { return "--set " + key }

// variable is the environment variable of a setting.
func variable(key string) string {
	return "ROUSE_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}
