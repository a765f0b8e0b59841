package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// caseFolder is where the cases recorded from the original are: ROUSE_CASES, else the repository's copy.
func caseFolder() string {
	if dir := os.Getenv("ROUSE_CASES"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "testdata", "cases")
}

func loadCases(t *testing.T, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(caseFolder(), "kpa_cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func checkFaults(t *testing.T, what any, valid bool, faults []Fault) {
	t.Helper()
	if valid != (len(faults) == 0) {
		t.Errorf("%v: got faults %v, want valid %v", what, faults, valid)
	}
	for _, f := range faults {
		if f.Key == "" || f.Allowed == "" || !strings.Contains(f.Error(), f.Key) {
			t.Errorf("%v: fault %+v lacks a key or what is allowed", what, f)
		}
	}
}

func TestRecordedConfigMaps(t *testing.T) {
	var cases struct {
		Rows []struct {
			Data  map[string]string
			Valid bool
		} `json:"config_validation"`
	}
	loadCases(t, &cases)
	for _, c := range cases.Rows {
		_, faults := ParseAutoscaler(c.Data, nil)
		checkFaults(t, c.Data, c.Valid, faults)
	}
	t.Logf("%d rows", len(cases.Rows))
}

func TestRecordedAnnotations(t *testing.T) {
	var cases struct {
		Rows []struct {
			Annotations map[string]string
			Config      string
			Valid       bool
		} `json:"annotation_validation"`
	}
	loadCases(t, &cases)
	for _, c := range cases.Rows {
		data := map[string]string{}
		for kv := range strings.SplitSeq(c.Config, ",") {
			if k, v, ok := strings.Cut(kv, "="); ok {
				data[k] = v
			}
		}
		base, faults := ParseAutoscaler(data, nil)
		if len(faults) > 0 {
			t.Fatalf("config %q: %v", c.Config, faults)
		}
		annotations := map[string]string{}
		for k, v := range c.Annotations {
			annotations[PrefixAutoscaling+k] = v
		}
		_, faults = ParseAnnotations(annotations, base, Layers{})
		checkFaults(t, c.Annotations, c.Valid, faults)
	}
	t.Logf("%d rows", len(cases.Rows))
}

func TestRecordedTargets(t *testing.T) {
	var cases struct {
		Rows []struct {
			ID             string
			Metric         string
			CC             int64    `json:"container_concurrency"`
			Fraction       float64  `json:"cfg_cc_fraction"`
			CCDefault      float64  `json:"cfg_cc_default"`
			RPSDefault     float64  `json:"cfg_rps_default"`
			AnnTarget      *float64 `json:"ann_target"`
			AnnUtilization *float64 `json:"ann_utilization_pct"`
			WantTarget     float64  `json:"want_target"`
			WantTotal      float64  `json:"want_total"`
		} `json:"target"`
	}
	loadCases(t, &cases)
	for _, c := range cases.Rows {
		base := DefaultAutoscaler()
		base.TargetFraction.V, base.ConcurrencyTarget.V, base.RPSTarget.V = c.Fraction, c.CCDefault, c.RPSDefault
		o := Overrides{Metric: Value[string]{c.Metric, &Origin{Source: Annotation}}}
		if c.AnnTarget != nil {
			o.Target = Value[float64]{*c.AnnTarget, &Origin{Source: Annotation}}
		}
		if c.AnnUtilization != nil {
			o.UtilizationPercent = Value[float64]{*c.AnnUtilization, &Origin{Source: Annotation}}
		}
		s := resolveScaling(base, o, Value[int]{int(c.CC), &Origin{Source: Spec}})
		if s.Target() != c.WantTarget || s.Total.V != c.WantTotal {
			t.Errorf("%s: target, total = %g, %g, want %g, %g", c.ID, s.Target(), s.Total.V, c.WantTarget, c.WantTotal)
		}
	}
	t.Logf("%d rows", len(cases.Rows))
}

func TestRecordedPanicWindows(t *testing.T) {
	var cases struct {
		Rows []struct {
			Stable  float64 `json:"stable_window_s"`
			Percent float64 `json:"panic_window_pct"`
			Want    float64 `json:"want_panic_window_s"`
		} `json:"panic_window"`
	}
	loadCases(t, &cases)
	for _, c := range cases.Rows {
		s := Scaling{}
		s.StableWindow.V = durationOf(c.Stable)
		s.PanicWindowPercent.V = c.Percent
		if got := s.PanicWindow(); got != durationOf(c.Want) {
			t.Errorf("%g s, %g %%: panic window = %s, want %g s", c.Stable, c.Percent, got, c.Want)
		}
	}
}
