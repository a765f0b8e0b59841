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
