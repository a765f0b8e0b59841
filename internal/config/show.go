package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Show returns a setting of the revision, one of [Revision.Values], for people: as it is written, with its unit.
func (rev *Revision) Show(v Named) string {
	switch x := v.V.(type) {
	case float64:
		return rev.showNumber(v.Name, x)
	case int:
		if x == 0 && (v.Name == "containerConcurrency" || v.Name == "max-scale") {
			return "no limit"
		}
	case time.Duration:
		if x == 0 && strings.HasSuffix(v.Name, "TimeoutSeconds") {
			return "off"
		}
	}
	return v.String()
}

func (rev *Revision) showNumber(name string, x float64) string {
	switch {
	case name == "target-utilization-percentage":
		return short(x*100) + "%"
	case strings.HasSuffix(name, "-percentage"):
		return short(x) + "%"
	case name != "target":
		return short(x)
	}
	switch metric := rev.Scaling.Metric.V; metric {
	case MetricCPU:
		return short(x/resourceUnits[metric].size) + "% of a core"
	case MetricMemory:
		return short(x/resourceUnits[metric].size) + " MiB"
	case MetricRPS:
		return short(x) + " requests per second"
	default:
		return short(x)
	}
}

// short writes a number without the digits that dividing by a hundred and back leaves.
func short(x float64) string {
	return strconv.FormatFloat(math.Round(x*1e6)/1e6, 'f', -1, 64)
}

// PerPod says in words how much a pod takes at once.
func (rev *Revision) PerPod() string {
	if rev.ContainerConcurrency.V == 0 {
		return "no limit per pod"
	}
	return fmt.Sprintf("limit %d per pod", rev.ContainerConcurrency.V)
}
