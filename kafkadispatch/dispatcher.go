package kafkadispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// idleWorker is how long a worker without work, or a connection without requests, is kept.
const idleWorker = 30 * time.Second

// Dispatcher reads one source and feeds one sink. Make it with New, run it with Run, once.
type Dispatcher struct {
	cfg    Config
	log    *slog.Logger
	mapper *event.Mapper
	sink   *sink.Target
	dead   destination
	reply  destination
	topics *producer // nil unless a destination is a topic

	counters counters
	consumer *kafka.Consumer
	teller   teller
	inbox    inbox
	shared   shared

	mu      sync.Mutex
	sched   *order.Scheduler                    // guarded by mu, like all below
	parts   map[order.TopicPartition]*partition // assigned
	health  *health
	idle    []*worker // workers without work, the latest last
	stopped bool
	// landed is signalled when a request ends while somebody waits for that.
	landed     chan struct{}
	awaiting   bool
	uncommit   int // records finished since the last commit
	readySince time.Time
	lingering  bool
	reopening  bool

	commitNow chan struct{}
	room      chan struct{} // signalled when the buffer falls to its low mark
	wantRoom  bool          // guarded by mu

	committing sync.Mutex // held over a commit; taken before mu
	wg         sync.WaitGroup
}

// destination is a Destination ready for use.
type destination struct {
	http  *sink.Target
	topic string
}

func (d destination) set() bool { return d.http != nil || d.topic != "" }

func (d destination) String() string {
	if d.http != nil {
		return d.http.URL()
	}
	return "topic " + d.topic
}

// New checks the configuration. It starts nothing and connects to nothing.
func New(cfg Config) (*Dispatcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("source %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{
		cfg: cfg, log: cfg.Logger.With("source", cfg.Namespace+"/"+cfg.Name),
		sched: order.New(cfg.Order), parts: map[order.TopicPartition]*partition{},
		health: newHealth(cfg.Order.MaxInFlight, cfg.Fixed),
		landed: make(chan struct{}, 1), commitNow: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	d.shared.hungry.Store(true)
	d.teller.f = cfg.Report
	if err := d.connect(); err != nil {
		return nil, fmt.Errorf("source %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	return d, nil
}

func (d *Dispatcher) connect() (err error) {
	cfg := &d.cfg
	if d.mapper, err = event.NewMapper(cfg.Namespace, cfg.Name, cfg.KeyType, cfg.Overrides); err != nil {
		return err
	}
	if d.sink, err = sink.New(d.shaped(cfg.Sink)); err != nil {
		return err
	}
	if d.dead, err = d.destination(cfg.DeadLetter); err != nil {
		return fmt.Errorf("delivery.deadLetterSink: %w", err)
	}
	if d.reply, err = d.destination(cfg.Reply); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	if d.dead.topic != "" || d.reply.topic != "" {
		d.topics = &producer{cfg: cfg.Kafka.ClientConfig()}
	}
	return nil
}

// shaped adds the header lines that every request has.
func (d *Dispatcher) shaped(c sink.Config) sink.Config {
	c.Header = append([][2]string{{"Prefer", "reply"}, {"Kn-Namespace", d.cfg.Namespace}}, c.Header...)
	return c
}

func (d *Dispatcher) destination(c Destination) (out destination, err error) {
	out.topic = c.Topic
	if c.HTTP != nil {
		out.http, err = sink.New(d.shaped(*c.HTTP))
	}
	return out, err
}

// Run reads and sends until ctx ends, then lets tries under way finish within DrainTimeout, commits and leaves the
// group. It returns when everything it started has ended. The error is about the client's configuration or the
// broker's final word; a broker that is away, and a topic that is not there yet, are waited for.
func (d *Dispatcher) Run(ctx context.Context) error {
	cm := d.cfg.Kafka.consumerConfig()
	c, err := kafka.NewConsumer(&cm)
	if err != nil {
		d.closeTargets()
		return fmt.Errorf("source %s/%s: kafka client: %w", d.cfg.Namespace, d.cfg.Name, err)
	}
	d.mu.Lock()
	d.consumer = c
	d.mu.Unlock()
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var aux sync.WaitGroup
	aux.Go(func() { d.commitLoop(inner) })
	aux.Go(func() { d.keepHouse(inner) })
	err = d.pollLoop(ctx)
	d.drain()
	stop()
	aux.Wait()
	err = errors.Join(err, d.leave())
	d.stopWorkers()
	return err
}

// drain lets tries under way end, within DrainTimeout, and takes nothing new.
func (d *Dispatcher) drain() {
	d.mu.Lock()
	ps := make([]*partition, 0, len(d.parts))
	for _, p := range d.parts {
		ps = append(ps, p)
	}
	d.mu.Unlock()
	d.fence(ps)
	d.await(ps, d.cfg.DrainTimeout)
}

func (d *Dispatcher) leave() error {
	if err := d.commitWithin(d.cfg.DrainTimeout / 4); err != nil {
		d.log.Warn("last commit failed: what was finished since the one before will be sent again", "error", err)
	}
	err := d.consumer.Close()
	if d.topics != nil {
		d.topics.close()
	}
	return err
}

func (d *Dispatcher) closeTargets() {
	d.sink.Close()
	for _, t := range []*sink.Target{d.dead.http, d.reply.http} {
		if t != nil {
			t.Close()
		}
	}
}

// stopWorkers breaks off tries that outlived their deadline and waits for every worker.
func (d *Dispatcher) stopWorkers() {
	d.mu.Lock()
	d.stopped = true
	for _, w := range d.idle {
		w.wake <- nil
	}
	d.idle = nil
	d.mu.Unlock()
	d.closeTargets()
	d.wg.Wait()
}

// fence forbids any further try for the partitions.
func (d *Dispatcher) fence(ps []*partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range ps {
		p.fenced.Store(true)
		d.sched.Revoke(p.Partition)
	}
}

// await waits until nothing of the partitions is in flight, at most for the given time.
func (d *Dispatcher) await(ps []*partition, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		flying := 0
		d.mu.Lock()
		for _, p := range ps {
			flying += p.InFlight()
		}
		d.awaiting = flying > 0
		d.mu.Unlock()
		if flying == 0 {
			return
		}
		select {
		case <-d.landed:
		case <-timer.C:
			d.log.Warn("tries under way were given up: their records will be sent again by the next owner", "records", flying)
			return
		}
	}
}

// keepHouse ends idle workers and connections, reports demand and says when a partition is shut.
func (d *Dispatcher) keepHouse(ctx context.Context) {
	tick := time.NewTicker(max(10*time.Millisecond, d.cfg.ReportEvery))
	defer tick.Stop()
	sweep := time.Now()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		if d.cfg.Report != nil {
			d.teller.tell(d.Demand(), now)
		}
		if now.Sub(sweep) > idleWorker/3 {
			sweep = now
			d.sweep(now.Add(-idleWorker))
		}
	}
}

func (d *Dispatcher) sweep(before time.Time) {
	d.mu.Lock()
	n := 0
	for n < len(d.idle) && d.idle[n].since.Before(before) {
		d.idle[n].wake <- nil
		n++
	}
	d.idle = append(d.idle[:0], d.idle[n:]...)
	d.mu.Unlock()
	for _, t := range []*sink.Target{d.sink, d.dead.http, d.reply.http} {
		if t != nil {
			t.CloseIdle(before)
		}
	}
}
