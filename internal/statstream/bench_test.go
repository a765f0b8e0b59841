package statstream_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

type arrival chan struct{}

func (a arrival) Report(metrics.Message) { a <- struct{}{} }

// BenchmarkPush is the time from a report to its arrival at the sink, over a loopback connection: what first demand
// waits for when control is another process.
func BenchmarkPush(b *testing.B) {
	got := make(arrival, 1)
	h, err := statstream.NewHandler(statstream.HandlerConfig{Sink: got})
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, err := statstream.NewClient(statstream.ClientConfig{URL: strings.Replace(srv.URL, "http", "ws", 1), Producer: "p"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	m := metrics.Message{Namespace: "default", Name: "hello-00001", Stat: metrics.Stat{PodName: "p", AverageConcurrency: 1}}
	c.Report(m)
	<-got
	b.ReportAllocs()
	for b.Loop() {
		c.Report(m)
		<-got
	}
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	if err := h.Close(context.Background()); err != nil {
		b.Error(err)
	}
}
