package kafkadispatch

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// ContentMode is how events are put into HTTP requests.
type ContentMode string

// The content modes.
const (
	Binary     ContentMode = "binary"     // attributes in headers, data in the body
	Structured ContentMode = "structured" // one JSON event in the body
	Batched    ContentMode = "batched"    // a JSON array of events in the body
)

// Exhausted says what becomes of a record that no try may follow and that has no dead letter destination.
type Exhausted string

// The choices.
const (
	Block Exhausted = "block" // keep trying, its lane waits; the default
	Drop  Exhausted = "drop"  // count it and go on
)

// Compat names the project whose choices are taken where ours differ.
type Compat string

// The projects.
const (
	CompatNone    Compat = ""
	CompatKnative Compat = "knative" // without dead letters a failed record is dropped; a dead letter that fails too
)

// Batch bounds one request in the batched mode.
type Batch struct {
	Records int           // most records; 0 means 50
	Bytes   int64         // most bytes of records; 0 means 512 KiB
	Linger  time.Duration // how long a batch that is not full may wait; 0 sends at once
}

// Destination is where dead letters or replies go: an HTTP address or a topic of the same cluster.
type Destination struct {
	HTTP  *sink.Config
	Topic string
}

// Config of a Dispatcher. Start from DefaultConfig.
type Config struct {
	// Namespace and Name of the source; they are part of each event.
	Namespace, Name string
	// Kafka says what to read.
	Kafka Kafka
	// Order bounds what is in flight and says what must stay in order.
	Order order.Config
	// Sink is where events go. Prefer and Kn-Namespace are added to its headers.
	Sink sink.Config
	// Mode is the content mode; empty means Binary.
	Mode ContentMode
	// Batch is for the mode Batched.
	Batch Batch
	// Policy says how failed tries are repeated, at the sink, the dead letter destination and the reply destination.
	Policy sink.Policy
	// DeadLetter takes records that failed for good.
	DeadLetter Destination
	// Exhausted is for records that failed for good when there is no DeadLetter; empty means Block.
	Exhausted Exhausted
	// Reply takes events with which the sink answers. Without it answers are discarded.
	Reply Destination
	// MaxHops ends loops of replies: an event that was a reply so many times is not replied to again; 0 means 16.
	MaxHops int
	// KeyType and Overrides shape the events.
	KeyType   event.KeyType
	Overrides map[string]string
	// StripErrors takes the extensions that dead letters have off the events: for sending them again.
	StripErrors bool
	// CommitEvery and CommitRecords: a commit is due after the time, or after so many finished records.
	CommitEvery   time.Duration
	CommitRecords int
	// BufferRecords and BufferBytes bound what is held in lanes. Reading stops at the bound and goes on at half of it.
	BufferRecords int
	BufferBytes   int64
	// RevokeDeadline is how long tries under way may go on when their partition is taken away; keep it far below
	// Kafka.MaxPollInterval.
	RevokeDeadline time.Duration
	// DrainTimeout is the same for the end of Run.
	DrainTimeout time.Duration
	// Fixed turns the adaptive in-flight limit and the circuit breaker off.
	Fixed bool
	// Compat takes another project's choices.
	Compat Compat
	// Report is called when the demand changes, at most every ReportEvery, at once when there is work after there was
	// none and before the first request, and every second while there is work. Calls do not overlap, and must not block.
	Report      func(Demand)
	ReportEvery time.Duration
	// Delivered, if set, is called after each record that the sink took, with the record's time, by the goroutine that
	// sent it. It must not block.
	Delivered func(produced time.Time)
	// Committed, if set, is called after each commit with the time up to which finished records are in it. It must not
	// block.
	Committed func(upTo time.Time, err error)
	// Logger gets what operators must know; nil discards.
	Logger *slog.Logger
}

// DefaultConfig has every default; bootstrap servers, group, topics and sink are left to set.
func DefaultConfig() Config {
	return Config{
		Kafka: DefaultKafka(), Order: order.DefaultConfig(), Mode: Binary,
		Batch:  Batch{Records: 50, Bytes: 512 << 10, Linger: 5 * time.Millisecond},
		Policy: sink.Policy{Retries: 10, Delay: 300 * time.Millisecond, MaxDelay: 5 * time.Minute, Jitter: 0.2, RetryAfterMax: 5 * time.Minute},
		// Half a second of work may be sent twice after a crash; the map of finished records makes it less.
		CommitEvery: 500 * time.Millisecond, CommitRecords: 10_000,
		BufferRecords: 16_384, BufferBytes: 32 << 20,
		RevokeDeadline: 3 * time.Second, DrainTimeout: 10 * time.Second,
		Exhausted: Block, MaxHops: 16, ReportEvery: 100 * time.Millisecond,
	}
}

// Validate reports every fault at once, each with its field.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.Name == "", "name: must be set")
	fault(c.Mode != "" && c.Mode != Binary && c.Mode != Structured && c.Mode != Batched, "mode %q: must be binary, structured or batched", c.Mode)
	fault(c.Exhausted != "" && c.Exhausted != Block && c.Exhausted != Drop, "exhausted %q: must be block or drop", c.Exhausted)
	fault(c.Compat != CompatNone && c.Compat != CompatKnative, "compat %q: must be empty or knative", c.Compat)
	fault(c.Policy.Retries < 0, "delivery.retry: must not be negative, is %d", c.Policy.Retries)
	fault(c.Policy.Delay < 0, "delivery.backoffDelay: must not be negative, is %v", c.Policy.Delay)
	fault(c.CommitEvery <= 0, "commitEvery: must be above 0, is %v", c.CommitEvery)
	fault(c.BufferRecords <= 0 || c.BufferBytes <= 0, "buffer: records and bytes must be above 0")
	fault(c.RevokeDeadline >= c.Kafka.MaxPollInterval, "revokeDeadline: must be below the poll interval of %v, is %v", c.Kafka.MaxPollInterval, c.RevokeDeadline)
	return errors.Join(append(errs, c.Kafka.validate())...)
}
