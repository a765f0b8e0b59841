package lifecycle_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rousehq/rouse/internal/lifecycle"
)

func ExampleRun() {
	stage := func(name string) lifecycle.Stage {
		ready := make(chan struct{})
		return lifecycle.Stage{
			Name:  name,
			Ready: ready,
			Run: func(ctx context.Context) error {
				fmt.Println(name, "is up")
				close(ready)
				<-ctx.Done()
				return nil
			},
			Stop: func(context.Context) error {
				fmt.Println(name, "drains")
				return nil
			},
		}
	}
	ctx, signal := context.WithCancel(context.Background())
	last := stage("listener")
	go func() {
		<-last.Ready
		signal() // SIGTERM
	}()
	fmt.Println(lifecycle.Run(ctx, 30*time.Second, stage("control"), last))
	// Output:
	// control is up
	// listener is up
	// listener drains
	// control drains
	// <nil>
}

func ExampleDrain() {
	now := time.Unix(0, 0)
	d := lifecycle.NewDrain(lifecycle.DrainConfig{Minimum: 5 * time.Second, Quiet: 2 * time.Second, Grace: 30 * time.Second})
	d.Begin(now)
	d.Came(now.Add(4 * time.Second))
	state, again := d.State(now.Add(5 * time.Second))
	fmt.Println(d.Ready(), state, again)
	state, _ = d.State(now.Add(6 * time.Second))
	fmt.Println(state)
	// Output:
	// false draining 1s
	// drained
}
