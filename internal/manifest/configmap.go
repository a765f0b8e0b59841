package manifest

import (
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

// AutoscalerConfig is the ConfigMap that holds the settings of all revisions.
const AutoscalerConfig = "config-autoscaler"

// knativeConfigs are Knative's other ConfigMaps, which nothing here reads yet.
var knativeConfigs = []string{
	"config-br-default-channel", "config-br-defaults", "config-certmanager", "config-contour", "config-defaults",
	"config-deployment", "config-domain", "config-features", "config-gateway", "config-gc", "config-imc-event-dispatcher",
	"config-istio", "config-kafka-broker-data-plane", "config-kafka-descheduler", "config-kafka-features",
	"config-kafka-sink-data-plane", "config-kafka-source-data-plane", "config-kafka-source-defaults", "config-kourier",
	"config-leader-election", "config-logging", "config-network", "config-observability", "config-ping-defaults",
	"config-sugar", "config-tracing",
}

// configMap reads a ConfigMap; those of applications are kept for references.
func (l *loader) configMap(o *object) {
	labels, _, ok := l.metadata(o, false)
	data := o.textMap("data")
	delete(data, "_example") // documentation that Knative ships in the map itself
	o.skip("immutable")
	o.unbuilt("is not read", "binaryData")
	o.done()
	if !ok {
		return
	}
	switch name := o.obj.Name; {
	case name == AutoscalerConfig:
	case slices.Contains(knativeConfigs, name):
		o.warnf("", "its settings are not built yet and have no effect")
	case strings.HasPrefix(name, "config-") && labels["app.kubernetes.io/part-of"] != "":
		o.warnf("", "is not a ConfigMap that Rouse knows; its settings have no effect")
	default:
		if near := config.Nearest(name, append([]string{AutoscalerConfig}, knativeConfigs...)); near != "" {
			o.fault(Warning, "is read for references only", "did you mean "+near+"?")
		}
	}
	l.set.ConfigMaps = append(l.set.ConfigMaps, ConfigMap{*o.obj, data})
}
