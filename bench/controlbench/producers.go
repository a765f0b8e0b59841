package controlbench

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// revisionID returns the i-th revision's identity.
func revisionID(i int) identity.Revision {
	name := fmt.Sprintf("rev-%05d", i)
	return identity.Revision{Namespace: "bench", Name: name, UID: "uid-" + name}
}

// podUID returns the name of a pod, which is its UID here.
func podUID(rev string, pod int) string { return fmt.Sprintf("%s-pod-%d", rev, pod) }

// load is what a pod has in flight: it swings by half around 60 within a minute, each revision at another time, so that
// decisions keep changing.
func load(revision int, t time.Time) float64 {
	phase := float64(revision%60) / 60
	return 60 + 30*math.Sin(2*math.Pi*(float64(t.UnixMilli()%60_000)/60_000+phase))
}

// produce plays all pods until ctx ends. Each stream reports for its pods once per second, at a time of its own.
func produce(ctx context.Context, o options) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for s := range o.streams {
		c, err := statstream.NewClient(statstream.ClientConfig{
			URL: "ws://" + o.producers, Producer: fmt.Sprintf("producer-%d", s), HTTP: &http.Client{Transport: tr},
			Buffer: o.revisions*o.pods/o.streams + 1,
		})
		if err != nil {
			return err
		}
		wg.Go(func() { _ = c.Run(ctx) }) // always nil
		wg.Go(func() { pods(ctx, o, s, c) })
	}
	<-ctx.Done()
	return nil
}

// pods reports for every pod whose number modulo the streams is s.
func pods(ctx context.Context, o options, s int, c *statstream.Client) {
	offset := time.Second * time.Duration(s) / time.Duration(o.streams)
	select {
	case <-ctx.Done():
		return
	case <-time.After(offset):
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := time.Now()
		for n := s; n < o.revisions*o.pods; n += o.streams {
			c.Report(report(n/o.pods, n%o.pods, now))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func report(revision, pod int, now time.Time) metrics.Message {
	id := revisionID(revision)
	v := load(revision, now)
	return metrics.Message{Namespace: id.Namespace, Name: id.Name, Stat: metrics.Stat{
		PodName: podUID(id.Name, pod), AverageConcurrency: v, RequestCount: v * 10, ProcessUptime: 100, Timestamp: now.Unix(),
		Extension: metrics.Extension{RevisionUID: id.UID, WorkSeconds: 0.1},
	}}
}
