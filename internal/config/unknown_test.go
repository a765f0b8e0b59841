package config

import (
	"slices"
	"testing"
)

func TestUnknownAnnotationsAreNamed(t *testing.T) {
	got := UnknownAnnotations(map[string]string{
		"autoscaling.knative.dev/min-scale":       "1",
		"autoscaling.knative.dev/minScale":        "1",
		"autoscaling.knative.dev/activationScale": "2", // has no alias
		"autoscaling.knative.dev/maxscale":        "2",
		"rouse.dev/queue-limits":                  "2",
		"serving.knative.dev/creator":             "me",
		"example.com/owner":                       "me",
	})
	want := []string{"autoscaling.knative.dev/activationScale", "autoscaling.knative.dev/maxscale", "rouse.dev/queue-limits"}
	if !slices.Equal(got, want) {
		t.Errorf("UnknownAnnotations = %q, want %q", got, want)
	}
}

func TestUnknownOnWorkloads(t *testing.T) {
	given := map[string]string{"rouse.dev/inject-prot": "8080", "rouse.dev/injected": "yes", "rouse.dev/container-concurency": "5", "rouse.dev/timeout-seconds": "5"}
	for _, key := range InjectAnnotations() {
		given[key] = "x"
	}
	want := []string{"rouse.dev/container-concurency", "rouse.dev/inject-prot", "rouse.dev/injected"}
	if got := UnknownOnWorkloads(given); !slices.Equal(got, want) {
		t.Errorf("UnknownOnWorkloads = %q, want %q", got, want)
	}
}
