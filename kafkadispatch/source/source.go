// Package source reads KafkaSource manifests (sources.knative.dev/v1 and v1beta1) and makes dispatcher configurations
// of them.
//
// Field names, defaults and the key-type label are Knative's. What Knative has no field for is an annotation under
// rouse.dev (see the constants). A field that is unknown, and every value that does not fit, is an error that names
// its field; all faults of a manifest are reported at once.
//
// It does no I/O: addresses and secrets come from a [Resolver]. Everything here is safe for concurrent use.
package source

import (
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Embedded is the bootstrap server that stands for the broker inside the process.
const Embedded = "embedded"

// keyTypeLabel says how record keys become text.
const keyTypeLabel = "kafkasources.sources.knative.dev/key-type"

// Annotations for what the KafkaSource schema cannot say.
const (
	AnnotationOrder      = "rouse.dev/order"         // partition, key or none; overrides spec.ordering
	AnnotationMode       = "rouse.dev/content-mode"  // binary, structured or batched
	AnnotationBatch      = "rouse.dev/batch-records" // most records of a batch
	AnnotationLinger     = "rouse.dev/batch-linger"  // ISO 8601 duration
	AnnotationInFlight   = "rouse.dev/max-in-flight" // requests
	AnnotationPartition  = "rouse.dev/max-in-flight-per-partition"
	AnnotationExhausted  = "rouse.dev/without-dead-letter" // block, drop, or topic:NAME
	AnnotationDeadTopic  = "rouse.dev/dead-letter-topic"
	AnnotationReplyTopic = "rouse.dev/reply-topic"
	AnnotationReplyURL   = "rouse.dev/reply-url"
	AnnotationProtocol   = "rouse.dev/group-protocol" // classic or consumer (KIP-848)
	AnnotationInstance   = "rouse.dev/group-instance-id"
	AnnotationCompat     = "rouse.dev/compat" // knative
	AnnotationHTTP2      = "rouse.dev/sink-http2"
	AnnotationPartitions = "rouse.dev/embedded-partitions" // of topics that an embedded broker has to make
)

// KafkaSource is a manifest as written.
type KafkaSource struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata is the part of an object's metadata that matters here.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Spec of a KafkaSource.
type Spec struct {
	BootstrapServers []string     `json:"bootstrapServers"`
	Topics           []string     `json:"topics"`
	ConsumerGroup    string       `json:"consumerGroup"`
	Consumers        *int         `json:"consumers"`
	InitialOffset    string       `json:"initialOffset"`
	Ordering         string       `json:"ordering"`
	Net              Net          `json:"net"`
	Delivery         *Delivery    `json:"delivery"`
	Sink             *Destination `json:"sink"`
	CEOverrides      *CEOverrides `json:"ceOverrides"`
}

// Net is how to reach the brokers.
type Net struct {
	SASL struct {
		Enable        bool      `json:"enable"`
		User          ValueFrom `json:"user"`
		Password      ValueFrom `json:"password"`
		Type          ValueFrom `json:"type"`
		TokenProvider ValueFrom `json:"tokenProvider"`
		RoleARN       ValueFrom `json:"roleARN"`
	} `json:"sasl"`
	TLS struct {
		Enable bool      `json:"enable"`
		Cert   ValueFrom `json:"cert"`
		Key    ValueFrom `json:"key"`
		CACert ValueFrom `json:"caCert"`
	} `json:"tls"`
}

// ValueFrom points at a value in a Secret.
type ValueFrom struct {
	SecretKeyRef *SecretKeyRef `json:"secretKeyRef"`
}

// SecretKeyRef names a key of a Secret in the source's namespace.
type SecretKeyRef struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Optional bool   `json:"optional"`
}

// Delivery is Knative's DeliverySpec.
type Delivery struct {
	DeadLetterSink *Destination `json:"deadLetterSink"`
	Retry          *int         `json:"retry"`
	Timeout        string       `json:"timeout"`
	BackoffPolicy  string       `json:"backoffPolicy"`
	BackoffDelay   string       `json:"backoffDelay"`
	RetryAfterMax  string       `json:"retryAfterMax"`
	Format         string       `json:"format"`
}

// Destination is where events go: a reference, a URI, or a URI relative to a reference.
type Destination struct {
	Ref      *Ref   `json:"ref"`
	URI      string `json:"uri"`
	CACerts  string `json:"CACerts"`
	Audience string `json:"audience"`
}

// Ref names an object that has an address.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Group      string `json:"group"`
	Address    string `json:"address"`
}

// CEOverrides are extensions that each event gets.
type CEOverrides struct {
	Extensions map[string]string `json:"extensions"`
}

// Is says whether a manifest of this apiVersion and kind is for this package.
func Is(apiVersion, kind string) bool {
	return kind == "KafkaSource" && (apiVersion == "sources.knative.dev/v1" || apiVersion == "sources.knative.dev/v1beta1")
}

// Parse reads one manifest, YAML or JSON. A status, and metadata that does not matter, are ignored.
func Parse(doc []byte) (*KafkaSource, error) {
	var k KafkaSource
	var loose struct {
		Metadata map[string]any `json:"metadata"`
		Spec     map[string]any `json:"spec"`
	}
	if err := yaml.Unmarshal(doc, &k); err != nil {
		return nil, fmt.Errorf("KafkaSource: %w", err)
	}
	if !Is(k.APIVersion, k.Kind) {
		return nil, fmt.Errorf("%s %s: not a KafkaSource of sources.knative.dev/v1 or v1beta1", k.APIVersion, k.Kind)
	}
	if err := yaml.Unmarshal(doc, &loose); err != nil {
		return nil, fmt.Errorf("KafkaSource: %w", err)
	}
	strict, err := yaml.Marshal(loose.Spec)
	if err != nil {
		return nil, fmt.Errorf("KafkaSource: %w", err)
	}
	if err := yaml.UnmarshalStrict(strict, &Spec{}); err != nil {
		return nil, fmt.Errorf("KafkaSource %s: spec: %w", k.Metadata.Name, unwrapJSON(err))
	}
	if k.Metadata.Namespace == "" {
		k.Metadata.Namespace = "default"
	}
	return &k, nil
}

// unwrapJSON takes the decoder's own prefixes off its message.
func unwrapJSON(err error) error {
	text := err.Error()
	for _, prefix := range []string{"error unmarshaling JSON: ", "while decoding JSON: ", "json: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}
