package config

import (
	"slices"
	"strings"
)

// Annotations about the queue-proxy in pods: package inject reads them, and says what they mean.
const (
	Inject          = PrefixRouse + "inject"
	InjectContainer = PrefixRouse + "inject-container"
	InjectPort      = PrefixRouse + "inject-port"
	InjectPorts     = PrefixRouse + "inject-ports"
)

// InjectAnnotations returns those about the queue-proxy in pods.
func InjectAnnotations() []string { return []string{Inject, InjectContainer, InjectPort, InjectPorts} }

// UnknownOnWorkloads are the [UnknownAnnotations] of a Deployment or of pods in a cluster, where also those about the
// queue-proxy are read.
func UnknownOnWorkloads(annotations map[string]string) []string {
	return slices.DeleteFunc(UnknownAnnotations(annotations), func(key string) bool { return slices.Contains(InjectAnnotations(), key) })
}

// UnknownAnnotations returns, in order, the annotations of the prefixes autoscaling.knative.dev/ and rouse.dev/ that
// nothing reads, misspelt ones among them: Knative ignores those without a word. Annotations of serving.knative.dev/
// are for many readers and never reported.
func UnknownAnnotations(annotations map[string]string) []string {
	var unknown []string
	for k := range annotations {
		ours := strings.HasPrefix(k, PrefixAutoscaling) || strings.HasPrefix(k, PrefixRouse)
		if ours && !slices.Contains(Annotations(), k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// Annotations returns every spelling of every annotation that is read, prefix included.
func Annotations() []string {
	var out []string
	for _, s := range settings {
		for _, name := range []string{s.key, s.alias} {
			if s.prefix != "" && name != "" {
				out = append(out, s.prefix+name)
			}
		}
	}
	return append(out, SpecAnnotations()...)
}

// ClusterKeys returns the keys of config-autoscaler that are read.
func ClusterKeys() []string {
	var out []string
	for _, s := range settings {
		if s.configMap != "" {
			out = append(out, s.configMap)
		}
	}
	return out
}
