package control

import (
	"context"
	"fmt"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

func ExampleLoop() {
	var book endpoint.Book
	loop, err := New(Config{}, Deps{
		Pods:     &book,
		Observer: func(e Event) { fmt.Println(e.Kind, e.From, "→", e.To) },
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = loop.Run(ctx) // always nil
	}()
	id := identity.Revision{Namespace: "default", Name: "hello-00001", UID: "1"}
	rev, _ := config.Resolve(config.Input{ID: id, Service: "hello"})
	applied := make(chan struct{})
	_ = loop.Add(rev, Target{Scale: scaleFunc(func(r Request) { close(applied) })}) // fails without a target only
	loop.Report(metrics.Message{Namespace: "default", Name: "hello-00001", Stat: metrics.Stat{PodName: "activator", AverageConcurrency: 1}})
	<-applied
	cancel()
	<-done
	// Output: waking 0 → 1
}

type scaleFunc func(Request)

func (f scaleFunc) Apply(_ context.Context, r Request) error { f(r); return nil }
