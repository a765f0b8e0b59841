package keda

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A ScaledObject's life: work comes, goes, the cooldown passes, brokers cannot be asked.
func TestScaler(t *testing.T) {
	lag := func(n int64) []Partition { return []Partition{{End: n}, {}} }
	trigger := Trigger{LagThreshold: 10}
	for _, c := range []struct {
		name   string
		object ScaledObject
		lags   []int64 // one poll each second; below 0 it fails
		want   []int
	}{
		{"from zero and back", ScaledObject{Bounds: Bounds{Max: 5}, Idle: -1, Cooldown: 2 * time.Second},
			[]int64{0, 1, 15, 100, 0, 0, 0}, []int{0, 1, 2, 2, 1, 0, 0}},
		{"idle replicas", ScaledObject{Bounds: Bounds{Min: 2, Max: 5}, Idle: 0, Cooldown: time.Second},
			[]int64{0, 1, 0, 0}, []int{0, 2, 0, 0}},
		{"least replicas", ScaledObject{Bounds: Bounds{Min: 1, Max: 5}, Idle: -1, Cooldown: time.Second},
			[]int64{0, 20, 0, 0}, []int{1, 2, 1, 1}},
		{"fallback after three failures", ScaledObject{Bounds: Bounds{Max: 5}, Idle: -1, FallbackAfter: 3, FallbackReplicas: 4},
			[]int64{11, -1, -1, -1, -1, 11}, []int{2, 2, 2, 4, 4, 2}},
		{"no fallback", ScaledObject{Bounds: Bounds{Max: 5}, Idle: -1}, []int64{11, -1, -1, -1}, []int{2, 2, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(0, 0)
			c.object.Triggers = []Trigger{trigger}
			s := NewScaler(c.object, now)
			var got []int
			for _, n := range c.lags {
				if n < 0 {
					got = append(got, s.Failed())
				} else {
					got = append(got, s.Step(now, [][]Partition{lag(n)}))
				}
				now = now.Add(time.Second)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("replicas (-want +got):\n%s", diff)
			}
		})
	}
}
