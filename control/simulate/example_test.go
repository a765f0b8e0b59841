package simulate_test

import (
	"fmt"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/control/simulate"
)

func ExampleRun() {
	load, err := simulate.Shape{Kind: "burst", Rate: 100, Period: time.Minute, Duration: 2 * time.Minute}.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := kpa.DefaultPolicy()
	policy.Targets = []kpa.Target{{Metric: kpa.Concurrency, Value: 7, Total: 10}}
	policy.ContainerConcurrency = 10
	report, err := simulate.Run(simulate.Config{
		Load:   load,
		Policy: policy,
		Service: simulate.Service{
			Work:    simulate.Constant(500 * time.Millisecond),
			Startup: simulate.Constant(300 * time.Millisecond),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Total.Answered, "answered,", report.Total.PodsMost, "pods at most")
	// Output: 200 answered, 5 pods at most
}
