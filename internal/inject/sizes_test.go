package inject

import (
	"strings"
	"testing"
)

// TestSizes: the request that is ours never exceeds a limit that is theirs, and what nothing reads is said.
func TestSizes(t *testing.T) {
	r := injected(t, "x", []byte(with("", sizePrefix+"memory-resource-limit: 8Mi, "+sizePrefix+"cpu-resource-limit: 20m, "+sizePrefix+"resource-percentage: \"20\",")), options)
	if want := "resources: {limits: {cpu: 20m, memory: 8Mi}, requests: {cpu: 10m, memory: 8Mi}}"; !strings.Contains(string(r.YAML), want) {
		t.Errorf("the sidecar lacks %s:\n%s", want, r.YAML)
	}
	if len(r.Faults) != 1 || !r.Faults[0].Minor || !strings.HasSuffix(r.Faults[0].Field, "resource-percentage") {
		t.Errorf("said %v, want a warning of resource-percentage", r.Faults)
	}
}

// TestQuantity holds it against https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/.
func TestQuantity(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "10m": 0.01, "0.5": 0.5, ".5": 0.5, "1.": 1, "64Mi": 64 << 20, "1k": 1000, "1E": 1e18, "1E3": 1000, "1e-3": 0.001} {
		if got, ok := quantity(text); !ok || got != want {
			t.Errorf("quantity(%q) = %g, %t, want %g", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "abc", "-1", "1core", "1mi", "1e", "1..2", "Mi", "1 Mi", "1K"} {
		if got, ok := quantity(text); ok {
			t.Errorf("quantity(%q) = %g, want it refused", text, got)
		}
	}
}
