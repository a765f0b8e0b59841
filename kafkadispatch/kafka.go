package kafkadispatch

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// InitialOffset says where a group without a commit starts.
type InitialOffset string

// The initial offsets. Any other value must be a time in RFC 3339.
const (
	Earliest InitialOffset = "earliest"
	Latest   InitialOffset = "latest"
)

// SASL is how to log in to the brokers.
type SASL struct {
	Mechanism          string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; empty means none
	Username, Password string
	// Token returns an OAUTHBEARER token, the principal and the time at which it ends.
	Token func() (token, principal string, end time.Time, err error)
}

// TLS is how to speak TLS to the brokers. PEM texts.
type TLS struct {
	Enable        bool
	CA, Cert, Key string
	SkipVerify    bool
}

// Kafka says what to read, and how.
type Kafka struct {
	Bootstrap []string
	Group     string
	Topics    []string
	// InitialOffset is for partitions without a commit.
	InitialOffset InitialOffset
	// NextGen uses the group protocol of KIP-848; the brokers then own session and heartbeat times.
	NextGen bool
	// InstanceID makes the member static. Set it only where a restarted process has the same ID again.
	InstanceID      string
	SessionTimeout  time.Duration
	MaxPollInterval time.Duration
	// PrefetchKiB caps what the client library holds for all partitions.
	PrefetchKiB int
	// ReadUncommitted also reads records of open and aborted transactions.
	ReadUncommitted bool
	SASL            SASL
	TLS             TLS
}

// DefaultKafka has a session timeout of 10 s, a poll interval of 5 min and 16 MiB of prefetch.
func DefaultKafka() Kafka {
	return Kafka{InitialOffset: Latest, SessionTimeout: 10 * time.Second, MaxPollInterval: 5 * time.Minute, PrefetchKiB: 16 << 10}
}

func (k *Kafka) validate() error {
	var errs []error
	if len(k.Bootstrap) == 0 {
		errs = append(errs, errors.New("bootstrapServers: must name a broker"))
	}
	if len(k.Topics) == 0 {
		errs = append(errs, errors.New("topics: must name a topic"))
	}
	if k.Group == "" {
		errs = append(errs, errors.New("consumerGroup: must be set"))
	}
	if k.InitialOffset != Earliest && k.InitialOffset != Latest {
		if _, err := time.Parse(time.RFC3339, string(k.InitialOffset)); err != nil {
			errs = append(errs, fmt.Errorf("initialOffset %q: must be earliest, latest or a time in RFC 3339", k.InitialOffset))
		}
	}
	switch k.SASL.Mechanism {
	case "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	case "OAUTHBEARER":
		if k.SASL.Token == nil {
			errs = append(errs, errors.New("net.sasl: OAUTHBEARER needs a token provider"))
		}
	default:
		errs = append(errs, fmt.Errorf("net.sasl.type %q: must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", k.SASL.Mechanism))
	}
	return errors.Join(errs...)
}

// ClientConfig is the part of the client library's configuration that producers, admin clients and consumers share.
func (k *Kafka) ClientConfig() kafka.ConfigMap {
	m := kafka.ConfigMap{
		"bootstrap.servers": strings.Join(k.Bootstrap, ","), "client.id": "rouse", "log_level": 2,
		"enable.metrics.push":      false, // brokers that collect client metrics make the library log
		"reconnect.backoff.max.ms": 2000, "topic.metadata.refresh.fast.interval.ms": 100,
	}
	protocol := "PLAINTEXT"
	if k.TLS.Enable {
		protocol = "SSL"
		set(m, "ssl.ca.pem", k.TLS.CA)
		set(m, "ssl.certificate.pem", k.TLS.Cert)
		set(m, "ssl.key.pem", k.TLS.Key)
		m["enable.ssl.certificate.verification"] = !k.TLS.SkipVerify
	}
	if k.SASL.Mechanism != "" {
		protocol = "SASL_" + protocol
		m["sasl.mechanisms"] = k.SASL.Mechanism
		set(m, "sasl.username", k.SASL.Username)
		set(m, "sasl.password", k.SASL.Password)
	}
	m["security.protocol"] = protocol
	return m
}

func set(m kafka.ConfigMap, key, value string) {
	if value != "" {
		m[key] = value
	}
}

func (k *Kafka) consumerConfig() kafka.ConfigMap {
	m := k.ClientConfig()
	m["group.id"] = k.Group
	m["enable.auto.commit"] = false
	m["enable.auto.offset.store"] = false
	m["enable.partition.eof"] = true // tells where trailing transaction markers end
	// Offsets are always given at assignment; this one is for those that retention has overtaken.
	m["auto.offset.reset"] = "earliest"
	m["max.poll.interval.ms"] = int(k.MaxPollInterval.Milliseconds())
	m["queued.max.messages.kbytes"] = k.PrefetchKiB
	m["fetch.message.max.bytes"] = 256 << 10
	m["fetch.wait.max.ms"] = 100
	// The library waits so long after its queue was full before it fetches again: with its own second, no source could
	// be faster than PrefetchKiB per second.
	m["fetch.queue.backoff.ms"] = 20
	// A topic that is created after its consumer, or that has grown, is seen at the next refresh; the library's own
	// interval of five minutes would leave it unread for so long.
	m["topic.metadata.refresh.interval.ms"] = 2000
	m["fetch.error.backoff.ms"] = 100
	m["isolation.level"] = "read_committed"
	if k.ReadUncommitted {
		m["isolation.level"] = "read_uncommitted"
	}
	set(m, "group.instance.id", k.InstanceID)
	if k.NextGen {
		m["group.protocol"] = "consumer"
		return m
	}
	m["partition.assignment.strategy"] = "cooperative-sticky"
	m["session.timeout.ms"] = int(k.SessionTimeout.Milliseconds())
	m["heartbeat.interval.ms"] = max(100, int(k.SessionTimeout.Milliseconds())/4)
	return m
}
