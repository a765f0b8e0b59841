package statstream_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

type printer struct{ done context.CancelFunc }

func (p printer) Report(m metrics.Message) {
	fmt.Println(m.Key(), m.Stat.PodName, m.Stat.AverageConcurrency, "report", m.Stat.Extension.Sequence)
	p.done()
}

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	handler, err := statstream.NewHandler(statstream.HandlerConfig{Sink: printer{cancel}, Authorize: statstream.StaticToken("secret")})
	if err != nil {
		panic(err)
	}
	srv := httptest.NewServer(handler)
	defer srv.Close()
	client, err := statstream.NewClient(statstream.ClientConfig{
		URL:      strings.Replace(srv.URL, "http", "ws", 1),
		Producer: "activator-7f/1",
		Token:    func() (string, error) { return "secret", nil },
	})
	if err != nil {
		panic(err)
	}
	client.Report(metrics.Message{Namespace: "default", Name: "hello-00001", Stat: metrics.Stat{PodName: "activator-7f", AverageConcurrency: 1}})
	_ = client.Run(ctx) // always nil
	_ = handler.Close(context.Background())
	// Output: default/hello-00001 activator-7f 1 report 1
}
