package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// world resolves every Service and knows one secret.
type world struct{}

func (world) Address(ref Ref) (string, error) {
	if ref.Kind != "Service" {
		return "", errors.New("no such kind here")
	}
	return "http://" + ref.Name + "." + ref.Namespace + ".local/", nil
}

func (world) Secret(_, name, key string) (string, error) {
	if name == "kafka" {
		return "the " + key, nil
	}
	return "", errors.New("no such secret")
}

func (world) Embedded() []string { return []string{"127.0.0.1:9"} }

func (world) Token(string) func(context.Context) (string, error) { return nil }

func manifest(annotations, spec string) string {
	return "apiVersion: sources.knative.dev/v1\nkind: KafkaSource\nmetadata: {name: s, namespace: ns, annotations: {" + annotations + "}}\nspec: {" + spec + "}\n"
}

const least = `bootstrapServers: [b:9092], topics: [t], sink: {uri: "http://s/x"}`

func configOf(t *testing.T, text string) (kafkadispatch.Config, error) {
	t.Helper()
	k, err := Parse([]byte(text))
	if err != nil {
		return kafkadispatch.Config{}, err
	}
	return k.Config(world{})
}

func TestDefaults(t *testing.T) {
	c, err := configOf(t, manifest("", least))
	if err != nil {
		t.Fatal(err)
	}
	if c.Order.Mode != order.ByPartition || c.Kafka.InitialOffset != kafkadispatch.Latest || c.Kafka.Group != "knative-kafka-source-ns-s" {
		t.Errorf("mode %v, initial offset %v, group %q", c.Order.Mode, c.Kafka.InitialOffset, c.Kafka.Group)
	}
	if c.Policy.Retries != 10 || c.Policy.Linear || c.Policy.Delay != 300*time.Millisecond {
		t.Errorf("policy without a delivery = %+v, want 10 retries, exponential from 0.3 s", c.Policy)
	}
}

func TestWholeManifest(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "kafka-source.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := configOf(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	want := kafkadispatch.DefaultConfig()
	want.Namespace, want.Name = "default", "payment-events"
	want.Kafka.Bootstrap, want.Kafka.Group = []string{"127.0.0.1:9"}, "payments-consumer"
	want.Kafka.Topics, want.Kafka.InitialOffset = []string{"payments.completed", "payments.failed"}, kafkadispatch.Earliest
	want.Sink.URL = "http://event-display.default.local/"
	want.DeadLetter.HTTP = &sink.Config{URL: "http://error-handler.default.local/"}
	want.Policy.Retries, want.Policy.Delay = 3, time.Second
	if d := cmp.Diff(want.Kafka, c.Kafka, cmp.Comparer(func(a, b kafkadispatch.SASL) bool { return a.Mechanism == b.Mechanism })); d != "" {
		t.Errorf("kafka:\n%s", d)
	}
	if c.Sink.URL != want.Sink.URL || c.DeadLetter.HTTP.URL != want.DeadLetter.HTTP.URL || c.Policy != want.Policy || c.Name != want.Name {
		t.Errorf("sink %q, dead letters %q, policy %+v, name %q", c.Sink.URL, c.DeadLetter.HTTP.URL, c.Policy, c.Name)
	}
}

func TestAnnotationsAndSecrets(t *testing.T) {
	c, err := configOf(t, manifest(`rouse.dev/order: key, rouse.dev/content-mode: batched, rouse.dev/batch-records: "20", rouse.dev/batch-linger: PT0.01S,
  rouse.dev/max-in-flight: "7", rouse.dev/without-dead-letter: "topic:dead", rouse.dev/group-protocol: consumer`,
		least+`, net: {sasl: {enable: true, user: {secretKeyRef: {name: kafka, key: user}}, password: {secretKeyRef: {name: kafka, key: pw}},
  type: {secretKeyRef: {name: none, key: x, optional: true}}}, tls: {enable: true}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Order.Mode != order.ByKey || c.Mode != kafkadispatch.Batched || c.Batch.Records != 20 || c.Batch.Linger != 10*time.Millisecond ||
		c.Order.MaxInFlight != 7 || c.DeadLetter.Topic != "dead" || !c.Kafka.NextGen {
		t.Errorf("annotations were not taken: %+v", c)
	}
	if s := c.Kafka.SASL; s.Mechanism != "PLAIN" || s.Username != "the user" || s.Password != "the pw" || !c.Kafka.TLS.Enable {
		t.Errorf("login = %q %q %q", s.Mechanism, s.Username, s.Password)
	}
}

func TestFaultsNameTheirField(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"broken duration", manifest("", least+`, delivery: {retry: 1, backoffDelay: 5s}`), `spec.delivery.backoffDelay: "5s": must be an ISO 8601 duration`},
		{"policy", manifest("", least+`, delivery: {backoffPolicy: random}`), "spec.delivery.backoffPolicy"},
		{"ordering", manifest("", least+`, ordering: sometimes`), "spec.ordering"},
		{"initial offset", manifest("", least+`, initialOffset: middle`), "initialOffset"},
		{"no sink", manifest("", `bootstrapServers: [b], topics: [t]`), "spec.sink: must be set"},
		{"unknown field", manifest("", least+`, tpoics: [x]`), `unknown field "tpoics"`},
		{"unknown kind of sink", manifest("", `bootstrapServers: [b], topics: [t], sink: {ref: {kind: Queue, name: q}}`), "spec.sink.ref: no such kind"},
		{"unknown secret", manifest("", least+`, net: {tls: {enable: true, caCert: {secretKeyRef: {name: x, key: y}}}}`), "spec.net.tls.caCert.secretKeyRef"},
		{"annotation", manifest("rouse.dev/order: upwards", least), "metadata.annotations.rouse.dev/order"},
		{"exhausted", manifest("rouse.dev/without-dead-letter: topic", least), `rouse.dev/without-dead-letter: "topic": must be block, drop or topic:NAME`},
		{"exhausted, topic without name", manifest("rouse.dev/without-dead-letter: 'topic:'", least), `must be block, drop or topic:NAME`},
		{"mode", manifest("rouse.dev/content-mode: batch", least), `rouse.dev/content-mode: "batch": must be binary, structured or batched`},
		{"compat", manifest("rouse.dev/compat: knativ", least), `rouse.dev/compat: "knativ": must be knative`},
		{"HTTP/2", manifest("rouse.dev/sink-http2: 'yes'", least), `rouse.dev/sink-http2: "yes": must be true or false`},
		{"no broker", manifest("", `topics: [t], sink: {uri: "http://s/x"}`), "spec.bootstrapServers: must name a broker"},
		{"two faults", manifest("", `topics: [t], ordering: sometimes, sink: {uri: nowhere}`), "spec.sink: must have a ref or an absolute uri"},
		{"not a source", "apiVersion: v1\nkind: Pod\n", "not a KafkaSource"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := configOf(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestUnknownAnnotations: one that is misspelt changes the order of records without a word.
func TestUnknownAnnotations(t *testing.T) {
	k, err := Parse([]byte(manifest("rouse.dev/ordr: key, rouse.dev/colour: blue, rouse.dev/order: key, example.com/owner: me", least)))
	if err != nil {
		t.Fatal(err)
	}
	want := "metadata.annotations.rouse.dev/colour: nothing reads this annotation; it has no effect\n" +
		"metadata.annotations.rouse.dev/ordr: nothing reads this annotation; did you mean rouse.dev/order?"
	if got := k.Unknown().Error(); got != want {
		t.Errorf("Unknown = %s, want %s", got, want)
	}
	for _, name := range annotations {
		if _, err := configOf(t, manifest(name+": '?'", least)); err == nil && name != AnnotationDeadTopic && name != AnnotationReplyTopic &&
			name != AnnotationReplyURL && name != AnnotationInstance {
			t.Errorf("%s takes anything", name)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0.3S": 300 * time.Millisecond, "PT1M30S": 90 * time.Second, "P1DT12H": 36 * time.Hour, "PT600S": 10 * time.Minute, "P2D": 48 * time.Hour,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "1S", "PT1", "PTS", "P1W", "PT1S1M", "PT-1S", "PTxS", "P1M"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("PT0.3S")
	f.Add("P1DT2H3M4.5S")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && d < 0 {
			t.Fatalf("ParseDuration(%q) = %v", text, d)
		}
	})
}
