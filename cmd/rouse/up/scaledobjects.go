package up

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/keda"
	"github.com/rousehq/rouse/kafkadispatch/lag"
	"github.com/rousehq/rouse/kafkadispatch/source"
)

// scaledObject is the kind that this file runs.
const scaledObject = "keda.sh/ScaledObject"

// lagEvery is how often lag is read: KEDA's polling interval of 30 s is the time that a record would wait.
const lagEvery = 250 * time.Millisecond

// scaled is a ScaledObject with kafka triggers: the lag of consumer groups that read by themselves is a floor under the
// pods of a local service; requests may ask for more.
type scaled struct {
	a      *sources
	object keda.ScaledObject
	scaler *keda.Scaler
	before [][]lag.Partition // of the last poll, by trigger
	floor  int
	rev    identity.Revision // that has the floor
	failed bool
}

// decodeScaled notes a ScaledObject and the topics that the embedded broker must have for it.
func (a *sources) decodeScaled(doc manifest.Document, topics map[string]int) {
	o, err := keda.ParseScaledObject(doc.YAML)
	if err != nil {
		fmt.Fprintf(a.s.o.Stderr, "%s: %v; it does not scale, others go on\n", doc.Where(""), err)
		return
	}
	for _, t := range o.Triggers {
		if slices.Equal(t.BootstrapServers, []string{source.Embedded}) && t.Topic != "" {
			topics[t.Topic] = max(topics[t.Topic], (&source.KafkaSource{}).Partitions())
		}
	}
	a.scaled = append(a.scaled, &scaled{a: a, object: o, floor: -1})
}

// run reads lag and moves the floor until ctx ends.
func (s *scaled) run(ctx context.Context) {
	clients, err := s.clients()
	for _, c := range clients {
		defer c.Close()
	}
	if err != nil {
		s.say(err)
		return
	}
	if _, err := s.a.s.fleet.current(s.target()); err != nil {
		s.say(fmt.Errorf("spec.scaleTargetRef: %w; it is waited for", err))
	}
	s.scaler = keda.NewScaler(s.object, time.Now())
	s.before = make([][]lag.Partition, len(s.object.Triggers))
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		s.step(ctx, clients)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *scaled) target() string { return s.object.Namespace + "/" + s.object.TargetName }

// clients makes one for each trigger.
func (s *scaled) clients() (out []*lag.Client, err error) {
	for _, t := range s.object.Triggers {
		k := kafkadispatch.DefaultKafka()
		k.Bootstrap = t.BootstrapServers
		if slices.Equal(t.BootstrapServers, []string{source.Embedded}) {
			k.Bootstrap = s.a.Embedded()
		}
		c, err := lag.New(k.ClientConfig())
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (s *scaled) step(ctx context.Context, clients []*lag.Client) {
	seen := make([][]keda.Partition, len(clients))
	for i, t := range s.object.Triggers {
		inner, cancel := context.WithTimeout(ctx, 5*time.Second)
		now, err := clients[i].Poll(inner, t.Group, topicsOf(t))
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !s.failed {
				s.say(err)
			}
			s.failed = true
			s.apply(s.scaler.Failed())
			return
		}
		seen[i] = lag.ForTrigger(t, s.before[i], now)
		s.before[i] = now
	}
	s.failed = false
	s.apply(s.scaler.Step(time.Now(), seen))
}

// topicsOf lists a trigger's topics; none means those that the group has commits in.
func topicsOf(t keda.Trigger) []string {
	if t.Topic == "" {
		return nil
	}
	return strings.Split(t.Topic, ",")
}

// apply moves the floor of the service's newest revision, and has it decided about at once.
func (s *scaled) apply(replicas int) {
	rev, err := s.a.s.fleet.current(s.target())
	if err != nil || rev == s.rev && replicas == s.floor {
		return
	}
	if s.rev != rev && s.floor > 0 {
		_ = s.a.s.loop.SetFloor(s.rev, 0) // it may be gone already
	}
	s.rev, s.floor = rev, replicas
	if s.a.s.loop.SetFloor(rev, replicas) == nil {
		_ = s.a.s.loop.Decide(rev)
	}
}

func (s *scaled) say(err error) {
	fmt.Fprintf(s.a.s.o.Stderr, "ScaledObject %s/%s: %v; pods stay as they are, others go on\n", s.object.Namespace, s.object.Name, err)
}
