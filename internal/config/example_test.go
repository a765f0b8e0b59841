package config_test

import (
	"fmt"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
)

func ExampleResolve() {
	cluster, faults := config.ParseAutoscaler(map[string]string{"stable-window": "30s", "max-scale": "20"}, nil)
	if len(faults) > 0 {
		panic(config.Join(faults))
	}
	rev, _ := config.Resolve(config.Input{
		ID:         identity.Revision{Namespace: "default", Name: "hello-00001", UID: "1"},
		Autoscaler: cluster,
		Annotations: map[string]string{
			"autoscaling.knative.dev/target":   "10",
			"autoscaling.knative.dev/minScale": "1",
		},
		Above: config.Layers{Flags: map[string]string{"min-scale": "2"}},
	})
	s := rev.Scaling
	fmt.Println(s.Target(), "by", s.Total.Origin)
	fmt.Println(s.MinScale, "by", s.MinScale.Origin)
	fmt.Println(s.StableWindow, "by", s.StableWindow.Origin)
	fmt.Println(s.TargetBurstCapacity, "by", s.TargetBurstCapacity.Origin)

	_, faults = config.Resolve(config.Input{Annotations: map[string]string{
		"autoscaling.knative.dev/window": "90",
		"autoscaling.knative.dev/target": "0",
	}})
	for _, f := range faults {
		fmt.Println(f)
	}
	// Output:
	// 7 by annotation autoscaling.knative.dev/target
	// 2 by flag min-scale
	// 30s by configmap stable-window
	// 211 by default target-burst-capacity
	// autoscaling.knative.dev/target = "0": must be a number of at least 0.01
	// autoscaling.knative.dev/window = "90": must be a duration with a unit in [6s, 1h0m0s] in whole multiples of 1s
}

func ExampleStore() {
	var store config.Store
	id := identity.Revision{Namespace: "default", Name: "hello-00001", UID: "1"}
	store.Subscribe(func(c config.Change) { fmt.Println("max-scale is", c.New.Scaling.MaxScale) })
	in := config.Input{ID: id, Annotations: map[string]string{"autoscaling.knative.dev/max-scale": "3"}}
	store.Update(in)
	in.Annotations["autoscaling.knative.dev/max-scale"] = "many"
	fmt.Println(store.Update(in)[0])
	fmt.Println("still", store.Load(id).Scaling.MaxScale)
	// Output:
	// max-scale is 3
	// autoscaling.knative.dev/max-scale = "many": must be a whole number in [0, 2147483647]
	// still 3
}
