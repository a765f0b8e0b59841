package interop

import (
	"context"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/websocket"
	activator "knative.dev/serving/pkg/activator"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/statserver"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// TestKnativesAutoscalerTakesOurStream: our client at the websocket of Knative's autoscaler, which skips our extension and
// reads the rest. A receiver that restarts says so with a close code of its own, and the client comes back.
func TestKnativesAutoscalerTakesOurStream(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", freePort(t))
	first := startStatserver(t, addr)
	client, err := statstream.NewClient(statstream.ClientConfig{URL: "ws://" + addr, Producer: "rouse-activator/1"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, client.Run)
	sent := metrics.Message{Namespace: revision.Namespace, Name: revision.Name, Stat: metrics.Stat{
		PodName: "rouse-activator", AverageConcurrency: 2.5, AverageProxiedConcurrency: 1.5, RequestCount: 7, ProxiedRequestCount: 6, ProcessUptime: 3, Timestamp: 1,
		Extension: metrics.Extension{Version: metrics.ExtensionVersion, RevisionUID: revision.UID, QueueLength: 4, Parked: 2, CPU: 0.5, Memory: 1e6},
	}}
	want := asmetrics.Stat{PodName: "rouse-activator", AverageConcurrentRequests: 2.5, AverageProxiedConcurrentRequests: 1.5,
		RequestCount: 7, ProxiedRequestCount: 6, ProcessUptime: 3, Timestamp: 1}
	arrive := func(s *statsReceiver) {
		t.Helper()
		client.Report(sent)
		select {
		case got := <-s.messages:
			if got.Key.Namespace != revision.Namespace || got.Key.Name != revision.Name || got.Stat != want {
				t.Errorf("Knative's autoscaler received %+v, want %+v", got, want)
			}
		case <-time.After(patience):
			t.Fatal("nothing came to Knative's autoscaler")
		}
	}
	arrive(first)
	lost := client.Counts().Lost // tries from before there was a server
	first.shutdown()
	until(t, "the client has noticed", func() bool { return client.Counts().Lost > lost })
	second := startStatserver(t, addr)
	until(t, "the client is back", client.Connected)
	arrive(second)
	second.shutdown()
}

// statsReceiver is the stats server of Knative's autoscaler.
type statsReceiver struct {
	messages chan asmetrics.StatMessage
	shutdown func()
}

func startStatserver(t *testing.T, addr string) *statsReceiver {
	t.Helper()
	r := &statsReceiver{messages: make(chan asmetrics.StatMessage, 100)}
	srv := statserver.New(addr, r.messages, zap.NewNop().Sugar(), func(string) bool { return true })
	done := make(chan error, 1)
	go func() { done <- srv.ListenAndServe() }()
	r.shutdown = func() {
		srv.Shutdown(patience)
		if err := <-done; err != nil {
			t.Errorf("Knative's stats server: %v", err)
		}
	}
	return r
}

// TestKnativesActivatorReportsToOurs: Knative's activator, its reporter and its websocket client in front of our
// queue-proxy, which pushes too. Our loop gets both streams and counts each request once.
func TestKnativesActivatorReportsToOurs(t *testing.T) {
	var book endpoint.Book
	loop := startLoop(t, &book)
	receiver, err := statstream.NewHandler(statstream.HandlerConfig{Sink: loop})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(receiver)
	t.Cleanup(srv.Close)
	url := strings.Replace(srv.URL, "http", "ws", 1)
	a := startKnativesActivator(t, 0, "http1")
	sink := websocket.NewDurableSendingConnection(url, zap.NewNop().Sugar())
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		activator.ReportStats(zap.NewNop().Sugar(), sink, a.stats)
	}()
	p := startRouse(t, startApplication(t), 0, "127.0.0.2", "ROUSE_STATS_URL="+url)
	p.ready()
	book.Publish(revision, []endpoint.Endpoint{p.endpoint(endpoint.Ready, endpoint.H1)})
	a.pods("http", []*pod{p}, nil)
	until(t, "both producers are connected", func() bool { return receiver.Counts().Streams == 2 })
	end := hold(t, p.app, 6, a.url, headers()...)
	direct := hold(t, p.app, 2, "http://"+p.addr.String())
	before := receiver.Counts().Reports
	until(t, "the window is full of both", func() bool { return receiver.Counts().Reports >= before+18 })
	if e := loop.explain(); math.Abs(e.InFlight-8) > 0.5 {
		t.Errorf("in flight = %g, want 8", e.InFlight)
	}
	if got := loop.stable(); math.Abs(got-8) > 8./6+0.1 {
		t.Errorf("the stable average is %g, want 8", got)
	}
	if c := receiver.Counts(); c.Malformed+c.Duplicates+c.Stale > 0 {
		t.Errorf("the receiver counts %+v, want every report taken", c)
	}
	direct()
	end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = receiver.Close(ctx) // the websocket client of Knative has no goodbye of its own
	if err := sink.Shutdown(); err != nil {
		t.Logf("Knative's websocket client: %v", err)
	}
	close(a.stats)
	<-sending
}
