package config

// Prefixes of the annotations that are read.
const (
	PrefixAutoscaling = "autoscaling.knative.dev/"
	PrefixServing     = "serving.knative.dev/"
	PrefixRouse       = "rouse.dev/"
)

// setting describes one per-revision or cluster-wide setting: where it may be written and whether it is live.
type setting struct {
	key       string // bare name: what flags and Live use
	prefix    string // of the annotation; empty when there is none
	alias     string // Knative's camelCase spelling of the annotation, if it has one
	configMap string // key in config-autoscaler or config-defaults, if there is one
	live      bool   // a change takes effect on running revisions
}

// settings is the one list of what can be configured. A setting that is not live is baked into the pods (the
// sidecar's environment) or into what the revision is, so that changing it takes a new revision.
var settings = []setting{
	{"class", PrefixAutoscaling, "", "pod-autoscaler-class", false},
	{"metric", PrefixAutoscaling, "", "", false},
	{"metric-aggregation-algorithm", PrefixAutoscaling, "metricAggregationAlgorithm", "", true},
	{"target", PrefixAutoscaling, "", "", true},
	{"target-utilization-percentage", PrefixAutoscaling, "targetUtilizationPercentage", "container-concurrency-target-percentage", true},
	{"target-burst-capacity", PrefixAutoscaling, "targetBurstCapacity", "target-burst-capacity", true},
	{"min-scale", PrefixAutoscaling, "minScale", "min-scale", true},
	{"max-scale", PrefixAutoscaling, "maxScale", "max-scale", true},
	{"initial-scale", PrefixAutoscaling, "initialScale", "initial-scale", true},
	{"activation-scale", PrefixAutoscaling, "", "", true},
	{"window", PrefixAutoscaling, "", "stable-window", true},
	{"panic-window-percentage", PrefixAutoscaling, "panicWindowPercentage", "panic-window-percentage", true},
	{"panic-threshold-percentage", PrefixAutoscaling, "panicThresholdPercentage", "panic-threshold-percentage", true},
	{"scale-down-delay", PrefixAutoscaling, "scaleDownDelay", "scale-down-delay", true},
	{"scale-to-zero-pod-retention-period", PrefixAutoscaling, "scaleToZeroPodRetentionPeriod", "scale-to-zero-pod-retention-period", true},
	{"scale-to-zero-grace-period", PrefixAutoscaling, "", "scale-to-zero-grace-period", true},
	{"progress-deadline", PrefixServing, "", "", true},
	{"queue-limit", PrefixRouse, "", "", true},
	{"queue-deadline", PrefixRouse, "", "", true},
	{"burst", PrefixRouse, "", "", true},
	{"metrics", PrefixRouse, "", "", true},
	{"schedule", PrefixRouse, "", "", true},
	{"session-affinity", PrefixRouse, "", "", true},
	{"zone-preference", PrefixRouse, "", "", true},
	{"outlier-ejection", PrefixRouse, "", "", true},
	{"pod-probe", PrefixRouse, "", "", true},
	{"enable-scale-to-zero", "", "", "enable-scale-to-zero", true},
	{"allow-zero-initial-scale", "", "", "allow-zero-initial-scale", true},
	{"target-default", "", "", "container-concurrency-target-default", true},
	{"rps-target-default", "", "", "requests-per-second-target-default", true},
	{"max-scale-up-rate", "", "", "max-scale-up-rate", true},
	{"max-scale-down-rate", "", "", "max-scale-down-rate", true},
	{"activator-capacity", "", "", "activator-capacity", true},
	{"max-scale-limit", "", "", "max-scale-limit", true},
	{"containerConcurrency", "", "", "", false},
	{"timeoutSeconds", "", "", "", false},
	{"responseStartTimeoutSeconds", "", "", "", false},
	{"idleTimeoutSeconds", "", "", "", false},
}

// Live reports whether a change of the setting takes effect on running revisions. key is the bare name: that of the
// annotation without its prefix, of the ConfigMap key, or of the manifest's field. Unknown keys are not live.
func Live(key string) bool {
	for _, s := range settings {
		if s.key == key || s.configMap == key && key != "" {
			return s.live
		}
	}
	return false
}

// LiveAnnotation reports whether a change of the annotation, in any spelling, takes effect on running revisions.
func LiveAnnotation(annotation string) bool {
	for _, s := range settings {
		if s.live && s.prefix != "" && (annotation == s.prefix+s.key || s.alias != "" && annotation == s.prefix+s.alias) {
			return true
		}
	}
	return false
}

// AnnotationKeys returns the bare names of the settings that a revision can carry, which are also the names of
// flags and, in upper case with underscores and the prefix ROUSE_, of environment variables.
func AnnotationKeys() []string {
	var keys []string
	for _, s := range settings {
		if s.prefix != "" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// annotated returns the spellings of an annotation by its bare name.
func annotated(key string) names {
	for _, s := range settings {
		if s.key != key || s.prefix == "" {
			continue
		}
		if s.alias != "" {
			return names{s.prefix, []string{s.key, s.alias}}
		}
		return names{s.prefix, []string{s.key}}
	}
	panic("config: no such annotation: " + key)
}
