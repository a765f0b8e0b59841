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

// TestUsualSizes: an installation's sizes count where annotations say nothing, and give way to what they say.
func TestUsualSizes(t *testing.T) {
	usual := Sizes{CPURequest: "50m", CPULimit: "100m", MemoryRequest: "32Mi", MemoryLimit: "64Mi"}
	for _, tc := range []struct {
		name        string
		usual       Sizes
		annotations string
		want        string
	}{
		{"none", Sizes{}, "", "{requests: {cpu: 10m, memory: 16Mi}}"},
		{"all", usual, "", "{limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 50m, memory: 32Mi}}"},
		{"a limit below what is requested without a word", Sizes{CPULimit: "5m"}, "", "{limits: {cpu: 5m}, requests: {cpu: 5m, memory: 16Mi}}"},
		{"annotations of the same", usual, "cpu-resource-request: 70m, memory-resource-limit: 48Mi", "{limits: {cpu: 100m, memory: 48Mi}, requests: {cpu: 70m, memory: 32Mi}}"},
		{"a request beyond the limit", usual, "cpu-resource-request: 300m", "{limits: {cpu: 300m, memory: 64Mi}, requests: {cpu: 300m, memory: 32Mi}}"},
		{"a limit below the request", usual, "memory-resource-limit: 8Mi", "{limits: {cpu: 100m, memory: 8Mi}, requests: {cpu: 50m, memory: 8Mi}}"},
		{"another resource", usual, "ephemeral-storage-resource-request: 1Mi", "{limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 50m, ephemeral-storage: 1Mi, memory: 32Mi}}"},
		{"an empty annotation", usual, `cpu-resource-request: ""`, "{limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 50m, memory: 32Mi}}"},
	} {
		o, annotations := options, ""
		o.Sizes = tc.usual
		for one := range strings.SplitSeq(tc.annotations, ", ") {
			if one != "" {
				annotations += sizePrefix + one + ", "
			}
		}
		if r := injected(t, "x", []byte(with("", annotations)), o); !strings.Contains(string(r.YAML), "resources: "+tc.want) {
			t.Errorf("%s: the sidecar lacks %s:\n%s", tc.name, tc.want, r.YAML)
		}
	}
	o := options
	o.Sizes = usual
	again := injected(t, "x", []byte(with("", "")), o).YAML
	for i, sizes := range []Sizes{{}, {CPURequest: "60m"}} { // what nobody says stays
		o.Sizes = sizes
		again = injected(t, "x", again, o).YAML
		if want := "resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: " + []string{"50m", "60m"}[i] + ", memory: 32Mi}}"; !strings.Contains(string(again), want) {
			t.Errorf("injected again with %+v the sidecar lacks %s:\n%s", sizes, want, again)
		}
	}
	err := Options{Image: "x", Sizes: Sizes{CPURequest: "1 core", CPULimit: "-1", MemoryRequest: "2Mi", MemoryLimit: "1Mi"}}.Validate()
	for _, want := range []string{`sidecar cpu-request = "1 core"`, `sidecar cpu-limit = "-1"`, `sidecar memory-limit = "1Mi": must be at least sidecar memory-request = "2Mi"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
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
