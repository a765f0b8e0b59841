package localpods_test

import (
	"context"
	"fmt"
	"os"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
)

// A revision is added once, and from then on only the number of its pods changes.
func Example() {
	cfg := localpods.Default()
	cfg.BaseEnv = os.Environ()
	ready := make(chan struct{})
	runner, err := localpods.New(cfg, localpods.Deps{
		Book: new(endpoint.Book), // the activator subscribes to it
		Observer: func(e localpods.Event) {
			fmt.Println(e.Kind)
			if e.Kind == localpods.Ready {
				close(ready)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello := identity.Revision{Namespace: "default", Name: "hello-00001"}
	err = runner.Add(localpods.Spec{
		Revision: hello, Service: "hello", Configuration: "hello",
		Argv: []string{os.Args[0]}, Env: []string{roleEnv + "=serve"}, // this test binary plays a server
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	<-runner.Started()
	if err := runner.Apply(ctx, hello, 1, nil); err != nil {
		fmt.Println(err)
	}
	<-ready
	stop()
	fmt.Println(<-ended)
	// Output:
	// starting
	// ready
	// stopped
	// <nil>
}
