package kafkadispatch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

const (
	pollWait  = 100 * time.Millisecond
	pollBurst = 256 // records taken over under one lock
)

// poller is what the poll loop alone uses.
type poller struct {
	d       *Dispatcher
	ctx     context.Context // of pollLoop: the client library's callback passes none
	tasks   []*task
	bytes   int64      // of tasks
	stock   []task     // to make the next ones of
	last    *partition // of the latest record, to spare a map lookup
	checked time.Time
	said    kafka.ErrorCode // the trouble that was logged last
}

// pollLoop reads until ctx ends or the client gives up.
func (d *Dispatcher) pollLoop(ctx context.Context) error {
	l := &poller{d: d, ctx: ctx}
	if err := d.consumer.SubscribeTopics(d.cfg.Kafka.Topics, l.rebalance); err != nil {
		return fmt.Errorf("source %s/%s: subscribe: %w", d.cfg.Namespace, d.cfg.Name, err)
	}
	for ctx.Err() == nil {
		wait := pollWait
		if d.awaitRoom(ctx) {
			wait = 0 // still full: poll once, for rebalances only
		}
		if err := l.poll(wait); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(l.checked) > 20*time.Millisecond {
			l.checked = now
			l.pauses(now)
		}
	}
	return nil
}

// awaitRoom waits, for a fifth of a second at most, while the buffer is full. It reports whether it still is.
// Waiting costs nothing, whereas a paused partition loses what the client library has fetched for it.
func (d *Dispatcher) awaitRoom(ctx context.Context) bool {
	if !d.full() {
		return false
	}
	d.mu.Lock()
	d.publishLocked()
	if !d.full() {
		d.mu.Unlock()
		return false
	}
	d.wantRoom = true
	d.mu.Unlock()
	select {
	case <-d.room:
		return false
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
	return true
}

// poll takes over what the client library has, up to a burst.
func (l *poller) poll(wait time.Duration) error {
	ev := l.d.consumer.Poll(int(wait.Milliseconds()))
	for ev != nil {
		m, ok := ev.(*kafka.Message)
		if !ok || m.TopicPartition.Error != nil {
			l.handOver()
			return l.event(ev)
		}
		l.take(m)
		if len(l.tasks) >= pollBurst || wait == 0 {
			break
		}
		ev = l.d.consumer.Poll(0)
	}
	l.handOver()
	return nil
}

func (l *poller) take(m *kafka.Message) {
	p := l.partition(&m.TopicPartition)
	if p == nil {
		return // of a partition that was taken away meanwhile
	}
	t := l.newTask(p, m)
	l.tasks = append(l.tasks, t)
	l.bytes += int64(t.Size)
}

// handOver gives what was read to the workers.
func (l *poller) handOver() {
	if len(l.tasks) == 0 {
		return
	}
	d := l.d
	l.said = kafka.ErrNoError
	d.counters.received.Add(int64(len(l.tasks)))
	d.inbox.push(l.tasks, l.bytes)
	clear(l.tasks)
	l.tasks, l.bytes = l.tasks[:0], 0
	if !d.shared.hungry.Load() {
		return // as many requests are under way as may be: the workers take over
	}
	now := time.Now()
	if d.cfg.Report != nil && d.teller.resting() {
		d.teller.tell(d.demand(), now) // the sink may be at zero: whoever scales it knows before the first request comes
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.startLocked(now)
}

// partition finds a partition without a lock: only the poll loop's own callback changes the map, under the lock that
// other readers take.
func (l *poller) partition(tp *kafka.TopicPartition) *partition {
	if p := l.last; p != nil && p.ID.Partition == tp.Partition && p.ID.Topic == *tp.Topic && !p.fenced.Load() {
		return p
	}
	l.last = l.d.parts[order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}]
	return l.last
}

// event handles what is not a record.
func (l *poller) event(ev kafka.Event) error {
	switch e := ev.(type) {
	case kafka.PartitionEOF:
		tp := kafka.TopicPartition(e)
		l.d.mu.Lock()
		defer l.d.mu.Unlock()
		if p := l.partition(&tp); p != nil {
			l.d.admitAllLocked(time.Now()) // what is skipped lies behind them
			p.Skip(int64(tp.Offset))
			l.d.startLocked(time.Now())
			p.ended = true
		}
	case *kafka.Message:
		return l.trouble(e.TopicPartition.Error)
	case kafka.Error:
		return l.trouble(e)
	case kafka.OAuthBearerTokenRefresh:
		l.refreshToken()
	}
	return nil
}

// trouble logs an error once, until records come again. Only an error that the client calls fatal ends the source.
func (l *poller) trouble(err error) error {
	ke, ok := err.(kafka.Error) //nolint:errorlint // the client library returns the value unwrapped
	if !ok {
		return nil
	}
	if ke.IsFatal() {
		return fmt.Errorf("source %s/%s: kafka: %w", l.d.cfg.Namespace, l.d.cfg.Name, ke)
	}
	if ke.Code() == l.said || ke.Code() == kafka.ErrAllBrokersDown && l.said != kafka.ErrNoError {
		return nil // that all are down only follows from what was said: a login refused, a name not found
	}
	if ke.Code() == kafka.ErrTransport || ke.Code() == kafka.ErrTimedOut {
		return nil // one broker; ErrAllBrokersDown and ErrResolve are what matters
	}
	l.said = ke.Code()
	l.d.log.Error("cannot read; trying on", "remedy", remedy(ke.Code(), &l.d.cfg.Kafka), "error", ke)
	return nil
}

func remedy(code kafka.ErrorCode, k *Kafka) string {
	switch code {
	case kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic:
		return fmt.Sprintf("create the topic, or correct topics %v", k.Topics)
	case kafka.ErrTopicAuthorizationFailed, kafka.ErrGroupAuthorizationFailed:
		return "allow the user to read the topics and the consumer group"
	case kafka.ErrAuthentication, kafka.ErrSaslAuthenticationFailed:
		return "correct net.sasl user and password"
	case kafka.ErrAllBrokersDown, kafka.ErrResolve:
		text := fmt.Sprintf("correct bootstrapServers %v, or start the brokers", k.Bootstrap)
		if k.SASL.Mechanism != "" {
			text += "; a broker that refuses a login may just hang up: check net.sasl user and password"
		}
		return text
	case kafka.ErrInvalidSessionTimeout:
		return "choose a session timeout between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
	case kafka.ErrSsl:
		return "correct net.tls"
	}
	return "see the error"
}

func (l *poller) refreshToken() {
	f := l.d.cfg.Kafka.SASL.Token
	if f == nil {
		return
	}
	token, principal, end, err := f()
	if err == nil {
		err = l.d.consumer.SetOAuthBearerToken(kafka.OAuthBearerToken{TokenValue: token, Principal: principal, Expiration: end})
	}
	if err != nil {
		l.d.log.Error("no token for the brokers", "error", err)
		_ = l.d.consumer.SetOAuthBearerTokenFailure(err.Error())
	}
}

// pauses stops reading partitions that are full, and goes on with those that are no more.
func (l *poller) pauses(now time.Time) {
	d := l.d
	var stop, start []kafka.TopicPartition
	var alerts []string
	d.mu.Lock()
	for _, p := range d.parts {
		reason := d.pauseReason(p, now)
		if reason != order.Open && reason != order.Share && p.reason != reason {
			alerts = append(alerts, fmt.Sprintf("%s/%d at %d: %v", p.ID.Topic, p.ID.Partition, p.Offsets().Position(), reason))
		}
		p.reason = reason
		p.SetAside(reason != order.Open)
		switch {
		case reason != order.Open && !p.paused:
			stop = append(stop, p.tp)
			p.paused = true
		case reason == order.Open && p.paused:
			start = append(start, p.tp)
			p.paused = false
		}
	}
	d.publishLocked()
	d.mu.Unlock()
	for _, a := range alerts {
		d.log.Warn("partition is not read further: its window beyond the commit is full", "partition", a)
	}
	if len(stop) > 0 {
		_ = d.consumer.Pause(stop)
	}
	if len(start) > 0 {
		_ = d.consumer.Resume(start)
	}
}

// pauseReason shuts a partition whose window is full, or that holds half as much again as its fair share of the
// buffer; it opens again at a quarter of the share.
func (d *Dispatcher) pauseReason(p *partition, now time.Time) order.Reason {
	if r := p.Full(now); r != order.Open {
		return r
	}
	n, b := p.Held()
	records, bytes := d.cfg.BufferRecords/len(d.parts), d.cfg.BufferBytes/int64(len(d.parts))
	share := max(float64(n)/float64(max(1, records)), float64(b)/float64(max(1, bytes)))
	switch {
	case len(d.parts) > 1 && share >= 1.5:
		return order.Share
	case p.paused && p.reason == order.Share && share > 0.25:
		return order.Share
	}
	return order.Open
}

// rebalance runs inside Poll.
func (l *poller) rebalance(_ *kafka.Consumer, ev kafka.Event) error {
	switch e := ev.(type) {
	case kafka.AssignedPartitions:
		return l.assigned(e.Partitions)
	case kafka.RevokedPartitions:
		return l.revoked(e.Partitions)
	}
	return nil
}

func (l *poller) revoked(tps []kafka.TopicPartition) error {
	d := l.d
	l.last = nil
	lost := d.consumer.AssignmentLost()
	ps := d.lookup(tps)
	d.fence(ps)
	if lost {
		d.forget(ps) // before anything else: the committer must not see them again
		d.counters.lost.Add(int64(len(tps)))
		d.log.Warn("assignment was lost: nothing is committed", "partitions", len(tps))
	} else {
		d.await(ps, d.cfg.RevokeDeadline)
		if err := d.commitWithin(d.cfg.RevokeDeadline / 4); err != nil {
			d.log.Warn("commit at revocation failed: finished records will be sent again", "error", err)
		}
	}
	d.forget(ps)
	if d.consumer.GetRebalanceProtocol() == "COOPERATIVE" {
		return d.consumer.IncrementalUnassign(tps)
	}
	return d.consumer.Unassign()
}

func (d *Dispatcher) forget(ps []*partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range ps {
		delete(d.parts, p.ID)
	}
}

func (d *Dispatcher) lookup(tps []kafka.TopicPartition) []*partition {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ps []*partition
	for _, tp := range tps {
		if p := d.parts[order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}]; p != nil {
			ps = append(ps, p)
		}
	}
	return ps
}

func (l *poller) assigned(tps []kafka.TopicPartition) error {
	d := l.d
	starts := d.starts(l.ctx, tps)
	d.mu.Lock()
	for i, s := range starts {
		id := order.TopicPartition{Topic: *tps[i].Topic, Partition: tps[i].Partition}
		p := &partition{Partition: d.sched.Assign(id, s.from, s.done), tp: kafka.TopicPartition{Topic: tps[i].Topic, Partition: tps[i].Partition}}
		if s.commit {
			p.Uncommitted()
		}
		d.parts[id] = p
		tps[i].Offset = s.read
	}
	d.mu.Unlock()
	d.log.Info("partitions assigned", "partitions", len(tps))
	d.teller.forget()
	signal(d.commitNow)
	if d.consumer.GetRebalanceProtocol() == "COOPERATIVE" {
		return d.consumer.IncrementalAssign(tps)
	}
	return d.consumer.Assign(slices.Clone(tps))
}
