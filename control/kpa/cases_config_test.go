package kpa_test

import (
	"encoding/json"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

func replayConfig(c *tally, row json.RawMessage) {
	k := read[struct {
		Data  map[string]string
		Valid bool
	}](c, row)
	_, faults := config.ParseAutoscaler(k.Data, nil)
	c.check(k.Valid == (len(faults) == 0) && explained(faults), "config_validation %s: faults %v", short(row), faults)
}

func replayAnnotations(c *tally, row json.RawMessage) {
	k := read[struct {
		Annotations map[string]string
		Config      string
		Valid       bool
	}](c, row)
	data := map[string]string{}
	for kv := range strings.SplitSeq(k.Config, ",") {
		if key, value, ok := strings.Cut(kv, "="); ok {
			data[key] = value
		}
	}
	base, faults := config.ParseAutoscaler(data, nil)
	if len(faults) > 0 {
		c.t.Fatalf("config %q: %v", k.Config, faults)
	}
	annotations := map[string]string{}
	for key, value := range k.Annotations {
		annotations[config.PrefixAutoscaling+key] = value
	}
	_, faults = config.ParseAnnotations(annotations, base, config.Layers{})
	c.check(k.Valid == (len(faults) == 0) && explained(faults), "annotation_validation %s: faults %v", short(row), faults)
}

// explained says whether each fault names the key and what would be allowed.
func explained(faults []config.Fault) bool {
	for _, f := range faults {
		if f.Key == "" || f.Allowed == "" {
			return false
		}
	}
	return true
}
