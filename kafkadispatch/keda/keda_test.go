package keda

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseTrigger(t *testing.T) {
	got, err := ParseTrigger(map[string]string{"bootstrapServers": "a:1, b:2", "consumerGroup": "g", "topic": "t", "lagThreshold": "100",
		"partitionLimitation": "1,3-5", "limitToPartitionsWithLag": "true", "offsetResetPolicy": "earliest"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.BootstrapServers) != 2 || got.LagThreshold != 100 || !slices.Equal(got.Partitions, []int32{1, 3, 4, 5}) || !got.Earliest || !got.LimitToPartitionsWithLag {
		t.Errorf("ParseTrigger = %+v", got)
	}
	if d, err := ParseTrigger(map[string]string{"bootstrapServers": "a", "consumerGroup": "g"}); err != nil || d.LagThreshold != 10 || d.ActivationLagThreshold != 0 || d.Earliest {
		t.Errorf("defaults = %+v, %v", d, err)
	}
}

func TestParseTriggerNamesEveryFault(t *testing.T) {
	_, err := ParseTrigger(map[string]string{"lagThreshold": "0", "activationLagThreshold": "-1", "offsetResetPolicy": "middle",
		"allowIdleConsumers": "perhaps", "limitToPartitionsWithLag": "true", "ensureEvenDistributionOfPartitions": "true"})
	for _, want := range []string{"bootstrapServers", "consumerGroup", "lagThreshold", "activationLagThreshold", "offsetResetPolicy",
		"allowIdleConsumers", "limitToPartitionsWithLag: needs topic", "ensureEvenDistributionOfPartitions: needs topic", "excludes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
	for _, text := range []string{"x", "3-1", "-1", "1-", "0-9999999"} {
		if got, err := ParsePartitions(text); err == nil {
			t.Errorf("ParsePartitions(%q) = %v, want an error", text, got)
		}
	}
}

// Our own choices never ask for more replicas than partitions with work, unless idle ones are wanted, and never stop
// short of what the lag asks for.
func TestOwnChoices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := Trigger{LagThreshold: rapid.Int64Range(1, 50).Draw(t, "threshold"), LimitToPartitionsWithLag: rapid.Bool().Draw(t, "limit")}
		ps := make([]Partition, rapid.IntRange(1, 70).Draw(t, "partitions"))
		total, lagging := int64(0), 0
		for i := range ps {
			lag := rapid.Int64Range(0, 300).Draw(t, "lag")
			start := rapid.Int64Range(0, 100).Draw(t, "start")
			ps[i] = Partition{Start: start, Committed: start, End: start + lag}
			total += lag
			if lag > 0 {
				lagging++
			}
		}
		b := Bounds{Max: 100, Current: rapid.IntRange(0, 100).Draw(t, "current")}
		got := tr.Evaluate(ps, b)
		most := len(ps)
		if tr.LimitToPartitionsWithLag {
			most = lagging
		}
		want := min(int((total+tr.LagThreshold-1)/tr.LagThreshold), most, b.Max)
		if got.Replicas != want || got.Active != (total > 0) {
			t.Fatalf("Evaluate(total %d, %d of %d partitions) = %+v, want %d replicas", total, lagging, len(ps), got, want)
		}
	})
}

func TestLagLeavesOutWhatIsDoneAndDeleted(t *testing.T) {
	tr := Trigger{LagThreshold: 10}
	for _, c := range []struct {
		name string
		p    Partition
		want int64
	}{
		{"one record blocks, the rest is done", Partition{Committed: 0, End: 50_001, Beyond: 50_000}, 1},
		{"retention has overtaken the commit", Partition{Start: 900, Committed: 100, End: 1000}, 100},
		{"commit beyond the end", Partition{Committed: 20, End: 10}, 0},
	} {
		if got, _ := tr.Lag(c.p); got != c.want {
			t.Errorf("%s: Lag = %d, want %d", c.name, got, c.want)
		}
	}
}

func TestParseScaledObject(t *testing.T) {
	const text = `apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: kafka-consumer-scaler, namespace: production}
spec:
  scaleTargetRef: {name: kafka-consumer}
  maxReplicaCount: 30
  pollingInterval: 15
  triggers:
    - type: kafka
      metadata: {bootstrapServers: kafka.production:9092, consumerGroup: order-processors, topic: orders, lagThreshold: "100"}
`
	got, err := ParseScaledObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.TargetKind != "Deployment" || got.TargetName != "kafka-consumer" || got.Bounds != (Bounds{Max: 30}) || got.Idle != -1 ||
		got.Polling.Seconds() != 15 || got.Cooldown.Seconds() != 300 || len(got.Triggers) != 1 || got.Triggers[0].LagThreshold != 100 {
		t.Errorf("ParseScaledObject = %+v", got)
	}
	_, err = ParseScaledObject([]byte(strings.NewReplacer("type: kafka", "type: cron", "name: kafka-consumer}", "kind: X}", "maxReplicaCount: 30", "maxReplicaCount: -1").Replace(text)))
	for _, want := range []string{"triggers[0].type", "scaleTargetRef.name", "maxReplicaCount"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}
