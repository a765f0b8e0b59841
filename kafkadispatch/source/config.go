package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// Resolver finds what a manifest only names.
type Resolver interface {
	// Address returns the URL of a referenced object.
	Address(ref Ref) (string, error)
	// Secret returns a value of a Secret.
	Secret(namespace, name, key string) (string, error)
	// Embedded returns the addresses of the broker inside the process, or nothing when there is none.
	Embedded() []string
	// Token returns a source of tokens for an audience, or nil when there is none.
	Token(audience string) func(context.Context) (string, error)
}

// builder collects faults while it makes a configuration.
type builder struct {
	k      *KafkaSource
	r      Resolver
	faults Faults
}

func (b *builder) fault(field string, err error) {
	if err != nil {
		b.faults = append(b.faults, Fault{Field: field, Text: err.Error()})
	}
}

// Config makes a dispatcher's configuration, or reports every fault: the error holds [Faults].
func (k *KafkaSource) Config(r Resolver) (kafkadispatch.Config, error) {
	b := &builder{k: k, r: r}
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = k.Metadata.Namespace, k.Metadata.Name
	b.kafka(&c.Kafka)
	b.order(&c)
	b.delivery(&c)
	b.annotations(&c)
	c.KeyType = event.KeyType(k.Metadata.Labels[keyTypeLabel])
	if o := k.Spec.CEOverrides; o != nil {
		c.Overrides = o.Extensions
	}
	if k.Spec.Sink == nil {
		b.fault("spec.sink", errors.New("must be set"))
	} else {
		b.sink("spec.sink", k.Spec.Sink, &c.Sink)
	}
	if len(b.faults) == 0 {
		b.faults = fieldsOf(c.Validate())
	}
	if len(b.faults) > 0 {
		return c, fmt.Errorf("KafkaSource %s/%s: %w", k.Metadata.Namespace, k.Metadata.Name, b.faults)
	}
	return c, nil
}

// Consumers is how many members the group has from this source: spec.consumers, 1 by default.
func (k *KafkaSource) Consumers() int {
	if k.Spec.Consumers == nil {
		return 1
	}
	return *k.Spec.Consumers
}

// Partitions is how many partitions an embedded broker gives the source's topics when it makes them: 4 by default.
func (k *KafkaSource) Partitions() int {
	n := 4
	_ = positive(k.Metadata.Annotations[AnnotationPartitions], &n) // Config reports it
	return n
}

func (b *builder) kafka(c *kafkadispatch.Kafka) {
	s := &b.k.Spec
	c.Bootstrap, c.Topics, c.Group = s.BootstrapServers, s.Topics, s.ConsumerGroup
	if len(s.BootstrapServers) == 1 && s.BootstrapServers[0] == Embedded {
		if c.Bootstrap = b.r.Embedded(); len(c.Bootstrap) == 0 {
			b.fault("spec.bootstrapServers", errors.New("there is no embedded broker here: name a real one"))
		}
	}
	if c.Group == "" {
		// Knative draws a UUID and keeps it in the object. Without an API server the name must do: it stays the same.
		c.Group = "knative-kafka-source-" + b.k.Metadata.Namespace + "-" + b.k.Metadata.Name
		if b.k.Metadata.UID != "" {
			c.Group = "knative-kafka-source-" + b.k.Metadata.UID
		}
	}
	if s.InitialOffset != "" {
		c.InitialOffset = kafkadispatch.InitialOffset(s.InitialOffset)
	}
	if n := b.k.Consumers(); n < 0 {
		b.fault("spec.consumers", fmt.Errorf("must not be negative, is %d", n))
	}
	b.net(c)
}

func (b *builder) net(c *kafkadispatch.Kafka) {
	n := &b.k.Spec.Net
	if n.TLS.Enable {
		c.TLS.Enable = true
		c.TLS.CA = b.secret("spec.net.tls.caCert", n.TLS.CACert)
		c.TLS.Cert = b.secret("spec.net.tls.cert", n.TLS.Cert)
		c.TLS.Key = b.secret("spec.net.tls.key", n.TLS.Key)
	}
	if !n.SASL.Enable {
		return
	}
	c.SASL.Mechanism = b.secret("spec.net.sasl.type", n.SASL.Type)
	if c.SASL.Mechanism == "" {
		c.SASL.Mechanism = "PLAIN"
	}
	c.SASL.Username = b.secret("spec.net.sasl.user", n.SASL.User)
	c.SASL.Password = b.secret("spec.net.sasl.password", n.SASL.Password)
	if c.SASL.Mechanism == "OAUTHBEARER" {
		b.oauth(c, b.secret("spec.net.sasl.tokenProvider", n.SASL.TokenProvider))
	}
}

// oauth takes tokens from the resolver: the audience is the token provider's name.
func (b *builder) oauth(c *kafkadispatch.Kafka, provider string) {
	f := b.r.Token(provider)
	if f == nil {
		b.fault("spec.net.sasl.tokenProvider", fmt.Errorf("%q: no such token provider here", provider))
		return
	}
	c.SASL.Token = func() (string, string, time.Time, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		token, err := f(ctx)
		return token, b.k.Metadata.Name, time.Now().Add(5 * time.Minute), err
	}
}

func (b *builder) secret(field string, v ValueFrom) string {
	if v.SecretKeyRef == nil {
		return ""
	}
	text, err := b.r.Secret(b.k.Metadata.Namespace, v.SecretKeyRef.Name, v.SecretKeyRef.Key)
	if err != nil && !v.SecretKeyRef.Optional {
		b.fault(field+".secretKeyRef", err)
	}
	return text
}

func (b *builder) order(c *kafkadispatch.Config) {
	switch o := b.k.Spec.Ordering; o {
	case "", "ordered":
		c.Order.Mode = order.ByPartition
	case "unordered":
		c.Order.Mode = order.Unordered
	default:
		b.fault("spec.ordering", fmt.Errorf("%q: must be ordered or unordered", o))
	}
}

// delivery takes over the delivery. Without one Knative's defaults for a KafkaSource hold (10 retries, exponential from
// 0.3 s); with one that names no retry there are none.
func (b *builder) delivery(c *kafkadispatch.Config) {
	d := b.k.Spec.Delivery
	if d == nil {
		return
	}
	p := &c.Policy
	p.Retries, p.Delay = 0, time.Second
	if d.Retry != nil {
		if p.Retries = *d.Retry; p.Retries < 0 {
			b.fault("spec.delivery.retry", fmt.Errorf("must not be negative, is %d", p.Retries))
		}
	}
	switch d.BackoffPolicy {
	case "", "exponential":
	case "linear":
		p.Linear = true
	default:
		b.fault("spec.delivery.backoffPolicy", fmt.Errorf("%q: must be linear or exponential", d.BackoffPolicy))
	}
	b.duration("spec.delivery.backoffDelay", d.BackoffDelay, &p.Delay)
	b.duration("spec.delivery.timeout", d.Timeout, &c.Sink.Timeout)
	b.duration("spec.delivery.retryAfterMax", d.RetryAfterMax, &p.RetryAfterMax)
	switch d.Format {
	case "", "binary":
	case "json":
		c.Mode = kafkadispatch.Structured
	default:
		b.fault("spec.delivery.format", fmt.Errorf("%q: must be binary or json", d.Format))
	}
	if d.DeadLetterSink != nil {
		c.DeadLetter.HTTP = &sink.Config{Timeout: c.Sink.Timeout}
		b.sink("spec.delivery.deadLetterSink", d.DeadLetterSink, c.DeadLetter.HTTP)
	}
}

func (b *builder) duration(field, text string, into *time.Duration) {
	if text == "" {
		return
	}
	v, err := ParseDuration(text)
	b.fault(field, err)
	if err == nil {
		*into = v
	}
}

func (b *builder) sink(field string, d *Destination, into *sink.Config) {
	address := d.URI
	if d.Ref != nil {
		ref := *d.Ref
		if ref.Namespace == "" {
			ref.Namespace = b.k.Metadata.Namespace
		}
		base, err := b.r.Address(ref)
		if err != nil {
			b.fault(field+".ref", err)
			return
		}
		if address, err = join(base, d.URI); err != nil {
			b.fault(field+".uri", err)
			return
		}
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" {
		b.fault(field, errors.New("must have a ref or an absolute uri"))
		return
	}
	into.URL = address
	if d.CACerts != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(d.CACerts)) {
			b.fault(field+".CACerts", errors.New("must hold PEM certificates"))
		}
		into.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if d.Audience != "" {
		if into.Token = b.r.Token(d.Audience); into.Token == nil {
			b.fault(field+".audience", fmt.Errorf("%q: there is no token source here", d.Audience))
		}
	}
}

func join(base, relative string) (string, error) {
	if relative == "" {
		return base, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	r, err := url.Parse(relative)
	if err != nil {
		return "", err
	}
	return u.ResolveReference(r).String(), nil
}

func (b *builder) annotations(c *kafkadispatch.Config) {
	for _, key := range annotations {
		value, ok := b.k.Metadata.Annotations[key]
		if !ok {
			continue
		}
		if err := b.annotation(c, key, value); err != nil {
			b.faults = append(b.faults, Fault{annotationsField, key, err.Error()})
		}
	}
}

func (b *builder) annotation(c *kafkadispatch.Config, key, value string) error {
	switch key {
	case AnnotationOrder:
		c.Order.Mode = map[string]order.Mode{"partition": order.ByPartition, "key": order.ByKey, "none": order.Unordered}[value]
		return oneOf(value, "partition", "key", "none")
	case AnnotationMode:
		c.Mode = kafkadispatch.ContentMode(value)
		return oneOf(value, string(kafkadispatch.Binary), string(kafkadispatch.Structured), string(kafkadispatch.Batched))
	case AnnotationBatch:
		return positive(value, &c.Batch.Records)
	case AnnotationLinger:
		var err error
		c.Batch.Linger, err = ParseDuration(value)
		return err
	case AnnotationInFlight:
		return positive(value, &c.Order.MaxInFlight)
	case AnnotationPartition:
		return positive(value, &c.Order.MaxInFlightPerPartition)
	case AnnotationExhausted:
		if topic, ok := strings.CutPrefix(value, "topic:"); ok && topic != "" {
			c.DeadLetter.Topic = topic
			return nil
		}
		c.Exhausted = kafkadispatch.Exhausted(value)
		return oneOf(value, string(kafkadispatch.Block), string(kafkadispatch.Drop), "topic:NAME")
	case AnnotationDeadTopic:
		c.DeadLetter = kafkadispatch.Destination{Topic: value}
	case AnnotationReplyTopic:
		c.Reply.Topic = value
	case AnnotationReplyURL:
		c.Reply.HTTP = &sink.Config{URL: value}
	case AnnotationProtocol:
		c.Kafka.NextGen = value == "consumer"
		return oneOf(value, "classic", "consumer")
	case AnnotationInstance:
		c.Kafka.InstanceID = value
	case AnnotationCompat:
		c.Compat = kafkadispatch.Compat(value)
		if c.Compat == kafkadispatch.CompatNone {
			return nil
		}
		b.compat(c)
		return oneOf(value, string(kafkadispatch.CompatKnative))
	case AnnotationHTTP2:
		c.Sink.HTTP2 = value == "true"
		return oneOf(value, "true", "false")
	case AnnotationPartitions:
		return positive(value, new(int))
	}
	return nil
}

// compat takes Knative's choices where a dispatcher's configuration can tell them.
func (b *builder) compat(c *kafkadispatch.Config) {
	c.Policy.Jitter, c.Policy.MaxDelay, c.Fixed = 0, 0, true
	c.CommitEvery = 5 * time.Second
	if d := b.k.Spec.Delivery; d == nil || d.RetryAfterMax == "" {
		c.Policy.RetryAfterMax = 0
	}
}

func positive(text string, into *int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("%q: must be a whole number above 0", text)
	}
	*into = n
	return nil
}
