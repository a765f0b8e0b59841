package kafkadispatch

import (
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

// stage is where a record is on its way.
type stage uint8

const (
	toSink stage = iota
	toReply
	toDeadLetter
)

// partition is an assigned partition. Its order.Partition is guarded by Dispatcher.mu.
type partition struct {
	*order.Partition
	tp     kafka.TopicPartition
	fenced atomic.Bool // set when the partition is taken away: no try may begin
	paused bool        // poll loop only
	reason order.Reason
	ended  bool // the log's end was seen once
}

// task is one record with its state. Between Take and Finish or Park it belongs to the worker.
type task struct {
	order.Record
	msg     *kafka.Message
	part    *partition
	stage   stage
	tries   int // at the reply or dead letter destination
	failure *failure
	replies []*event.Event // still to be sent
}

// failure is what a dead letter tells about the last try.
type failure struct {
	code  string // status, or empty when there was no answer
	data  []byte // the beginning of the answer's body
	extra [][2]string
	dest  string
}

// recordOverhead is what a record costs in memory beside its key and value: a floor, from the sizes of the structs.
const recordOverhead = 400

// slab is how many tasks are allocated together. A record that blocks its lane keeps its slab, without the others'
// records.
const slab = 32

// newTask makes a task from the poll loop's stock.
func (l *poller) newTask(p *partition, m *kafka.Message) *task {
	if len(l.stock) == 0 {
		l.stock = make([]task, slab)
	}
	t := &l.stock[0]
	l.stock = l.stock[1:]
	t.msg, t.part = m, p
	t.Offset, t.Key = int64(m.TopicPartition.Offset), m.Key
	t.Size = len(m.Key) + len(m.Value) + recordOverhead
	for i := range m.Headers {
		t.Size += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	t.Payload = t
	return t
}

// free lets go of what a task holds; others of its slab may live on.
func (t *task) free() { t.msg, t.part, t.Key, t.failure, t.replies = nil, nil, nil, nil, nil }

// verdict is what follows from a step of a task, or of a batch of them.
type verdict struct {
	again bool // the next stage follows at once
	park  bool
	wait  time.Duration
	sink  outcome
}

// outcome is what an exchange says about the sink itself.
type outcome uint8

const (
	untold outcome = iota
	well
	unwell      // no answer, or one that means overload
	unwellAgain // the same, from a record that has failed before: it may be the record
)
