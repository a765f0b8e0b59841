package front

import (
	"fmt"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
)

// twoPods are a control with two pods and two activators, each with the slots of one pod.
func twoPods(t *testing.T, s assign.Settings) (c *control, pods [2]*pod, activators []*activatorProcess) {
	t.Helper()
	c = begin(t, "127.0.0.1:0")
	t.Cleanup(c.kill)
	pods = [2]*pod{newPod(t, "p1", time.Millisecond), newPod(t, "p2", time.Millisecond)}
	c.tell(1, s.ContainerConcurrency)
	s.QueueLimit, s.QueueDeadline = 1000, 15*time.Second
	c.assign.PutRevision(assign.Revision{ID: hello, Settings: s})
	activators = []*activatorProcess{launch(t, c, "one"), launch(t, c, "two")}
	return c, pods, activators
}

// answers sends some requests through each activator, one after the other, and wants every one answered by a pod.
func answers(t *testing.T, by *pod, activators ...*activatorProcess) {
	t.Helper()
	client := newClient(t)
	for _, a := range activators {
		for range 3 {
			if body, err := get(client, a.addr); err != nil || body != by.uid {
				t.Errorf("through %s: %q, %v; want the answer of %s", a.name, body, err, by.uid)
			}
		}
	}
}

// TestAPodThatRefuses: a pod takes no connections any more and its source does not know yet. An activator that has slots in
// no other gets some in the one that is idle.
func TestAPodThatRefuses(t *testing.T) {
	for name, outlier := range map[string]config.Outlier{"left alone": {}, "ejected": {Failures: 3}} {
		for _, limit := range []int{1, 10} {
			t.Run(fmt.Sprintf("%s, limit %d", name, limit), func(t *testing.T) {
				c, pods, activators := twoPods(t, assign.Settings{ContainerConcurrency: limit, Dispatching: config.Dispatching{Outlier: outlier}})
				c.endpoints(2, pods[0], pods[1])
				c.rest(2, pods[0], pods[1])
				c.decide()
				pods[1].server.Close()
				answers(t, pods[0], activators...)
			})
		}
	}
}

// TestAPodThatNeverStarts: the pod of a rollout does not answer its probe, and all slots of an activator are in it.
func TestAPodThatNeverStarts(t *testing.T) {
	s := assign.Settings{ContainerConcurrency: 1}
	s.Dispatching.Probe.By = config.ProbeTCP
	c, pods, activators := twoPods(t, s)
	pods[1].server.Close()
	eps := []endpoint.Endpoint{pods[0].endpoint(), pods[1].endpoint()}
	eps[1].State = endpoint.Starting
	c.assign.Endpoints(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: hello, Version: 2, Endpoints: eps}})
	c.rest(2, pods[0], pods[1])
	c.decide()
	answers(t, pods[0], activators...)
}

// TestALiveRevisionGetsALimit: requests go on while control finds out who may send what. None waits for that, and in the
// end the pod has its limit.
func TestALiveRevisionGetsALimit(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	t.Cleanup(c.kill)
	p := newPod(t, "p1", time.Millisecond)
	c.tell(1, 0, p)
	one, two := launch(t, c, "one"), launch(t, c, "two")
	l := surge(t, 3, one, two)
	l.progress(t, 20)
	// Less than the time for which a new account waits for those who have leases.
	settings := assign.Settings{ContainerConcurrency: 4, QueueLimit: 1000, QueueDeadline: 2 * time.Second}
	c.assign.PutRevision(assign.Revision{ID: hello, Service: "hello", Configuration: "hello", Settings: settings})
	await(t, "both have slots", nil, func() bool {
		return len(c.assign.Leases(hello, "p1")) == 2 && c.assign.Settled(hello) || l.failed.Load() > 0
	})
	l.progress(t, 20)
	p.most.Store(0)
	l.progress(t, 20)
	l.end()
	if most := p.most.Load(); most > 4 {
		t.Errorf("the pod saw %d requests at once, its limit is 4", most)
	}
}
