package config

import "testing"

// TestShow: settings are shown as they are written, however they are kept.
func TestShow(t *testing.T) {
	zero, seven := int64(0), int64(7)
	a, faults := ParseAutoscaler(map[string]string{"container-concurrency-target-percentage": "70"}, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, tc := range []struct {
		annotations map[string]string
		limit       *int64
		name, want  string
	}{
		{map[string]string{PrefixAutoscaling + "target-utilization-percentage": "100"}, nil, "target-utilization-percentage", "100%"},
		{map[string]string{PrefixAutoscaling + "target-utilization-percentage": "57"}, nil, "target-utilization-percentage", "57%"},
		{nil, nil, "target-utilization-percentage", "70%"},
		{nil, nil, "panic-threshold-percentage", "200%"},
		{map[string]string{PrefixAutoscaling + "class": ClassHPA, PrefixAutoscaling + "metric": "cpu", PrefixAutoscaling + "target": "80"}, nil, "target", "80% of a core"},
		{map[string]string{PrefixAutoscaling + "class": ClassHPA, PrefixAutoscaling + "metric": "memory", PrefixAutoscaling + "target": "300"}, nil, "target", "300 MiB"},
		{map[string]string{PrefixAutoscaling + "metric": "rps", PrefixAutoscaling + "target": "0.5"}, nil, "target", "0.5 requests per second"},
		{map[string]string{PrefixAutoscaling + "target": "10"}, nil, "target", "10"},
		{map[string]string{PrefixAutoscaling + "max-scale": "0"}, nil, "max-scale", "no limit"},
		{map[string]string{PrefixAutoscaling + "min-scale": "0"}, nil, "min-scale", "0"},
		{nil, &zero, "containerConcurrency", "no limit"},
		{nil, &seven, "containerConcurrency", "7"},
		{nil, nil, "idleTimeoutSeconds", "off"},
		{nil, nil, "window", "1m0s"},
	} {
		rev, faults := Resolve(Input{ID: hello, Autoscaler: a, Annotations: tc.annotations, ContainerConcurrency: tc.limit})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		for _, v := range rev.Values() {
			if got := rev.Show(v); v.Name == tc.name && got != tc.want {
				t.Errorf("Show(%s) with %v = %q, want %q", tc.name, tc.annotations, got, tc.want)
			}
		}
	}
}
