package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFlags(t *testing.T) {
	got, err := ParseFlags([]string{"max-scale=5", "autoscaling.knative.dev/minScale=1", "panicWindowPercentage=20", "rouse.dev/burst=drain-aware",
		"containerConcurrency=3", "rouse.dev/timeout-seconds=20", "schedule=2 from @daily to @hourly=x"})
	want := map[string]string{"max-scale": "5", "min-scale": "1", "panic-window-percentage": "20", "burst": "drain-aware",
		"containerConcurrency": "3", "timeoutSeconds": "20", "schedule": "2 from @daily to @hourly=x"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("ParseFlags (-want +got):\n%s%v", diff, err)
	}
}

func TestParseFlagsRefusesWhatNothingReads(t *testing.T) {
	for pair, want := range map[string]string{
		"max-scle=5":                         "did you mean max-scale?",
		"autoscaling.knative.dev/maxscale=5": "did you mean autoscaling.knative.dev/maxScale?",
		"rouse.dev/max-scale=5":              "unknown setting",
		"container-concurrency=5":            "did you mean containerConcurrency?",
		"timeoutSecond=5":                    "did you mean timeoutSeconds?",
		"stable-window=20s":                  "did you mean window?",
		"enable-scale-to-zero=false":         "config-autoscaler",
		"colour=blue":                        "known are ",
		"max-scale":                          "KEY=VALUE",
		"=5":                                 "KEY=VALUE",
	} {
		if _, err := ParseFlags([]string{"min-scale=1", pair}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseFlags(%q) = %v, want one fault with %q", pair, err, want)
		}
	}
}

// TestFlagsOverTheManifestsFields: a flag wins over a field, and its faults name the flag.
func TestFlagsOverTheManifestsFields(t *testing.T) {
	two := int64(2)
	in := Input{ID: hello, ContainerConcurrency: &two, Above: Layers{Flags: map[string]string{"containerConcurrency": "7", "timeoutSeconds": "20"}}}
	rev, faults := Resolve(in)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if c := rev.ContainerConcurrency; c.V != 7 || c.Origin.String() != "flag containerConcurrency" || rev.Timeout.V.Seconds() != 20 || two != 2 {
		t.Errorf("containerConcurrency = %v of %v, timeout %v", c.V, c.Origin, rev.Timeout.V)
	}
	for value, want := range map[string]string{"many": "a whole number", "-1": "in [0, 1000]"} {
		in.Above.Flags["containerConcurrency"] = value
		_, faults := Resolve(in)
		if len(faults) != 1 || faults[0].Key != "--set containerConcurrency" || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("containerConcurrency=%s: %v", value, faults)
		}
	}
}

func TestFaultsNameTheirSource(t *testing.T) {
	for want, above := range map[string]Layers{
		`ROUSE_MAX_SCALE = "x"`: {Env: EnvLayer([]string{"ROUSE_MAX_SCALE=x"})},
		`--set max-scale = "x"`: {Flags: map[string]string{"max-scale": "x"}},
	} {
		if _, faults := Resolve(Input{ID: hello, Above: above}); len(faults) != 1 || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("Resolve = %v, want one fault with %s", faults, want)
		}
	}
}
