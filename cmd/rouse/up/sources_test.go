package up

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rousehq/rouse/kafkadispatch/cli"
)

// produce writes records with the embedded broker's own tool; "key<tab>value" lines have keys.
func (h *house) produce(topic string, lines []string, flags ...string) {
	h.t.Helper()
	args := append([]string{"-bootstrap", strings.Join(h.stack.sources.Embedded(), ",")}, flags...)
	if err := cli.Produce(h.t.Context(), append(args, topic), strings.NewReader(strings.Join(lines, "\n")+"\n"), io.Discard, io.Discard); err != nil {
		h.t.Fatal(err)
	}
}

// TestOrderBoundsPods gives two services of single-concurrency pods the same lag of 100,000 records over six partitions,
// one in order per partition, one per key. In order no seventh pod would get anything to do, so that none is started; by
// key there are more, and they have done more at the same moment.
func TestOrderBoundsPods(t *testing.T) {
	t.Parallel()
	h := start(t, ordered("bypartition", "partition")+"---"+ordered("bykey", "key"), nil)
	defer h.close()
	lines := make([]string, 100_000)
	for i := range lines {
		lines[i] = fmt.Sprintf("k%d:v", i%1000)
	}
	most := map[string]int{}
	h.produce("bypartition", lines, "-key-separator", ":")
	h.produce("bykey", lines, "-key-separator", ":")
	h.await("a thousand records done in order", func() bool {
		for _, name := range []string{"bypartition", "bykey"} {
			_, all := h.pods(name)
			most[name] = max(most[name], all)
		}
		return h.stack.sources.dispatchers[0].Stats().Delivered >= 1000
	})
	if most["bypartition"] > 6 || most["bykey"] <= 6 {
		t.Errorf("most pods: %v; want at most 6 in order per partition and more per key", most)
	}
	if in, by := h.stack.sources.dispatchers[0].Stats().Delivered, h.stack.sources.dispatchers[1].Stats().Delivered; by <= in {
		t.Errorf("done: %d in order per partition and %d per key; want more per key", in, by)
	}
}

func ordered(name, order string) string {
	return fmt.Sprintf(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: %[1]s}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/max-scale: "12"}}
    spec:
      containerConcurrency: 1
      containers: [{image: autoscale}]
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata:
  name: %[1]s
  annotations: {rouse.dev/order: %[2]s, rouse.dev/embedded-partitions: "6"}
spec:
  bootstrapServers: [embedded]
  consumerGroup: %[1]s
  topics: [%[1]s]
  initialOffset: earliest
  sink: {uri: "http://%[1]s.default.svc.cluster.local/?sleep=20"}
`, name, order)
}

// TestScaledObjectFollowsLag lets a consumer group fall behind, which reads by itself: pods of the local service come by
// its lag, with nobody asking them anything, and go when the group has caught up.
func TestScaledObjectFollowsLag(t *testing.T) {
	t.Parallel()
	h := start(t, `
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: consumer}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/window: "6s", autoscaling.knative.dev/scale-to-zero-pod-retention-period: "0s"}}
    spec:
      containers: [{image: hello}]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: scaler}
spec:
  scaleTargetRef: {name: consumer}
  cooldownPeriod: 0
  triggers:
    - type: kafka
      metadata: {bootstrapServers: embedded, consumerGroup: readers, topic: jobs, lagThreshold: "10", offsetResetPolicy: earliest}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: wrong}
spec:
  scaleTargetRef: {name: consumer}
  triggers: [{type: kafka, metadata: {topic: jobs}}]
`, nil)
	defer h.close()
	h.produce("jobs", make([]string, 25))
	h.await("three pods for 25 records", func() bool { ready, _ := h.pods("consumer"); return ready == 3 })
	h.commitAll("readers", "jobs")
	h.await("no pods", func() bool { ready, _ := h.pods("consumer"); return ready == 0 })
	if out := h.out.String(); !strings.Contains(out, "metadata.bootstrapServers: must be set") {
		t.Errorf("the wrong ScaledObject was not named:\n%s", out)
	}
}

// commitAll reads everything that is in a topic as a member of the group, and commits it.
func (h *house) commitAll(group, topic string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(h.stack.sources.Embedded()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	for n := 0; n < 25; {
		got := c.PollFetches(ctx)
		if err := got.Err(); err != nil {
			h.t.Fatal(fmt.Errorf("after %d records: %w", n, err))
		}
		n += got.NumRecords()
	}
	if err := c.CommitUncommittedOffsets(ctx); err != nil {
		h.t.Fatal(err)
	}
}

const misspeltSource = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: display}
spec: {template: {spec: {containers: [{image: event-display}]}}}
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata:
  name: greetings
  annotations:
    rouse.dev/ordr: key
spec:
  bootstrapServers: ["127.0.0.1:1"]
  topics: [greetings]
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: displai}}
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata: {name: wrong}
spec:
  bootstrapServers: ["127.0.0.1:1"]
  topics: [greetings]
  ordering: sometimes
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: display}}
`

// TestSourcesAreJudged: each fault has its place and its source's name once, and --strict refuses all of them.
func TestSourcesAreJudged(t *testing.T) {
	t.Parallel()
	h := start(t, misspeltSource, nil)
	h.close()
	for _, want := range []string{
		"stdin:11: warning: KafkaSource default/greetings: metadata.annotations[rouse.dev/ordr]: nothing reads this annotation; did you mean rouse.dev/order?\n",
		"stdin:15: warning: KafkaSource default/greetings: spec.sink: there is no service displai.default.svc.cluster.local in the manifests",
		"stdin:23: error: KafkaSource default/wrong: spec.ordering: \"sometimes\": must be ordered or unordered; it does not run, others go on\n",
		"KafkaSource default/greetings reads greetings as consumer group knative-kafka-source-default-greetings\n",
	} {
		if out := h.out.String(); !strings.Contains(out, want) {
			t.Errorf("up does not say %s\n%s", want, out)
		}
	}
	o := Default()
	o.Files, o.Stdin, o.Listen, o.Admin, o.Strict = []string{"-"}, strings.NewReader(misspeltSource), "127.0.0.1:0", "127.0.0.1:0", true
	o.Stdout, o.Stderr = io.Discard, io.Discard
	err := Run(t.Context(), o, nil)
	for _, line := range []string{"stdin:11: error", "stdin:15: error", "stdin:23: error"} {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("up --strict = %v, want %s", err, line)
		}
	}
}
