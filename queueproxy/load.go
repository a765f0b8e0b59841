package queueproxy

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/metrics"
)

// StatSink receives reports of load. It must not block for long: a report that cannot be delivered is lost, and the
// next one replaces it.
type StatSink interface {
	Report(m metrics.Message)
}

// Usage measures what the application uses.
type Usage interface {
	// Measure returns the cores used since the last call and the bytes held now, zeros when that cannot be known. It
	// is called once per report, never twice at a time, and may read files.
	Measure(now time.Time) (cores, bytes float64)
}

// load measures what is in the proxy.
type load struct {
	stats *metrics.SharedRequestStats
	start time.Time
	// What the application did since the last report.
	workNanos atomic.Int64
	workDone  atomic.Int64
}

func (l *load) init(now time.Time) {
	l.stats = metrics.NewSharedRequestStats(now)
	l.start = now
}

func (l *load) inFlight() int { return int(l.stats.InFlight()) }

func (l *load) begin(now time.Time, proxied bool) { l.stats.In(now, proxied) }

// end counts a request that leaves; app is the time that the application had it, 0 when it never did.
func (l *load) end(now time.Time, proxied bool, app time.Duration) {
	l.stats.Out(now, proxied)
	if app > 0 {
		l.workNanos.Add(int64(app))
		l.workDone.Add(1)
	}
}

// work returns the application's mean time per request since the last call, in seconds.
func (l *load) work() float64 {
	n, sum := l.workDone.Swap(0), l.workNanos.Swap(0)
	if n == 0 {
		return 0
	}
	return time.Duration(sum / n).Seconds()
}

// cut reads the load since the last call and begins a new period.
func (p *Proxy) cut(now time.Time) metrics.Stat {
	r := p.load.stats.Report(now)
	_, pending := p.Depth()
	var cores, bytes float64
	if p.deps.Usage != nil {
		cores, bytes = p.deps.Usage.Measure(now)
	}
	return metrics.Stat{
		PodName:                   p.cfg.Pod,
		AverageConcurrency:        r.AverageConcurrency,
		AverageProxiedConcurrency: r.AverageProxiedConcurrency,
		RequestCount:              r.RequestCount,
		ProxiedRequestCount:       r.ProxiedRequestCount,
		ProcessUptime:             now.Sub(p.load.start).Seconds(),
		Timestamp:                 now.Unix(),
		Extension: metrics.Extension{
			Version:     metrics.ExtensionVersion,
			RevisionUID: p.cfg.Revision.UID,
			Producer:    p.cfg.Pod,
			QueueLength: float64(pending),
			Draining:    p.Draining(),
			CPU:         cores,
			Memory:      bytes,
			WorkSeconds: p.load.work(),
		},
	}
}

// Last returns the report of the newest complete period, zero before the first.
func (p *Proxy) Last() metrics.Stat {
	if s := p.last.Load(); s != nil {
		return *s
	}
	return metrics.Stat{PodName: p.cfg.Pod}
}

// Run cuts a period every StatPeriod, and reports it when there is a sink, until ctx ends.
func (p *Proxy) Run(ctx context.Context) {
	tick := time.NewTicker(p.cfg.StatPeriod)
	defer tick.Stop()
	for seq := uint64(1); ; seq++ {
		select {
		case now := <-tick.C:
			s := p.cut(now)
			s.Extension.Sequence = seq
			p.last.Store(&s)
			if p.deps.Stats != nil {
				p.deps.Stats.Report(metrics.Message{Namespace: p.cfg.Revision.Namespace, Name: p.cfg.Revision.Name, Stat: s})
			}
		case <-ctx.Done():
			return
		}
	}
}
