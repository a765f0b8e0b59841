package kpa_test

import (
	"fmt"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

func ExampleDecide() {
	policy := kpa.DefaultPolicy()
	start := time.Unix(1600000000, 0)
	state := kpa.NewState(&policy, 0, start)

	seen := kpa.Observation{Ready: 1, Replicas: 1}
	seen.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 90, Panic: 300, Present: true}
	d := kpa.Decide(&policy, &state, &seen, start.Add(2*time.Second))

	why := d.Reasons.Wants[0]
	fmt.Printf("%d pods, panic %v\n", d.Desired, d.Panic)
	fmt.Printf("%v: stable %v asks for %d, panic %v for %d\n", why.Metric, why.Stable, why.StablePods, why.Panic, why.PanicPods)
	// Output:
	// 5 pods, panic true
	// concurrency: stable 90 asks for 2, panic 300 for 5
}

func ExampleTargetConfig_Resolve() {
	t := kpa.TargetConfig{Metric: kpa.Concurrency, ContainerConcurrency: 10, Utilisation: 0.7, Default: 100}.Resolve()
	fmt.Println(t.Value, "of", t.Total)
	// Output: 7 of 10
}
