package front

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// TestControlAway kills control under load, with all that it knew, and later starts one that has to be told everything
// again: nothing fails meanwhile, parked requests are served by the pods that exist, no pod ever sees two, and what
// changed is taken over afterwards.
func TestControlAway(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	pods := []*pod{newPod(t, "p1", 2e6), newPod(t, "p2", 2e6), newPod(t, "p3", 2e6)}
	c.tell(1, 1, pods...)
	var all []*activatorProcess
	for i := range 3 {
		all = append(all, launch(t, c, fmt.Sprintf("a%d", i)))
	}
	l := surge(t, 4, all...) // four clients at each, one slot: three are always parked
	l.progress(t, 50)
	c.rest(len(all), pods...)
	c.kill()
	l.progress(t, 200)
	for _, a := range all {
		if status := a.health(); status != http.StatusOK {
			t.Errorf("%s: health is %d while control is away, want 200", a.name, status)
		}
	}
	after := begin(t, c.addr)
	defer after.kill()
	fourth := newPod(t, "p4", 2e6)
	after.tell(2, 1, append(pods, fourth)...)
	await(t, "the pod that came meanwhile is used", nil, func() bool { return fourth.served.Load() > 20 })
	l.progress(t, 50)
	l.end()
	for _, p := range append(pods, fourth) {
		if most := p.most.Load(); most != 1 {
			t.Errorf("pod %s saw %d requests at once, its limit is 1", p.uid, most)
		}
	}
}

// TestRestartsOfTheListener: control's listener comes and goes 20 times under load, and every time what is new is taken
// over without a failed request.
func TestRestartsOfTheListener(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	addr := c.addr
	pods := []*pod{newPod(t, "p0", 1e6)}
	c.tell(1, 1, pods...)
	a, b := launch(t, c, "a"), launch(t, c, "b")
	l := surge(t, 2, a, b)
	for i := range 20 {
		l.progress(t, 5)
		c.kill()
		c = begin(t, addr)
		kept := pods[max(0, len(pods)-2):]
		newest := newPod(t, fmt.Sprintf("p%d", i+1), 1e6)
		pods = append(pods, newest)
		c.tell(uint64(i+2), 1, kept...)
		c.endpoints(2, append(kept[:len(kept):len(kept)], newest)...)
		await(t, "the newest pod is used", nil, func() bool { return newest.served.Load() > 3 || l.failed.Load() > 0 })
	}
	l.end()
	c.kill()
	for _, p := range pods {
		if most := p.most.Load(); most > 1 {
			t.Errorf("pod %s saw %d requests at once, its limit is 1", p.uid, most)
		}
	}
}

// TestTheFirstRequestReachesControl: nothing but the stream lies between a request for a sleeping revision and control,
// and what control answers wakes the request.
func TestTheFirstRequestReachesControl(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	c.tell(1, 0)
	a := launch(t, c, "a")
	answered := make(chan string, 1)
	go func() {
		body, err := get(newClient(t), a.addr)
		answered <- fmt.Sprint(body, err)
	}()
	await(t, "control hears of the request", a.out.String, func() bool { return c.demand.reports() > 0 })
	c.endpoints(2, newPod(t, "p1", 0))
	if got := <-answered; got != "p1<nil>" {
		t.Errorf("the request that woke it got %q, want the pod's answer", got)
	}
}

// TestAFailureReachesTheWaiters: control says why pods cannot start, and whoever waits is told.
func TestAFailureReachesTheWaiters(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	c.tell(1, 0)
	a := launch(t, c, "a")
	answered := make(chan error, 1)
	go func() {
		_, err := get(newClient(t), a.addr)
		answered <- err
	}()
	await(t, "control hears of the request", a.out.String, func() bool { return c.demand.reports() > 0 })
	c.assign.Fail(hello, "the image cannot be pulled")
	if err := <-answered; err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "the image cannot be pulled") {
		t.Errorf("got %v, want 503 with the reason", err)
	}
}

// TestPorts: a port that control assigns leads to its revision whatever the host, one that is taken is reported, and one
// that is taken back stays until its connections are gone.
func TestPorts(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	p := newPod(t, "p1", 0)
	p.hold = make(chan struct{})
	c.tell(1, 0, p)
	a := launch(t, c, "a", "--drain-minimum=0s")
	port, taken := freePort(t), takenPort(t)
	c.assign.SetPorts(hello, port, taken)
	state := func() assign.ActivatorState { st, _ := c.state("a"); return st }
	await(t, "the port is open", a.out.String, func() bool { st := state(); return st.Ports[port] == "" && len(st.Ports) == 2 })
	if reason := state().Ports[taken]; !strings.Contains(reason, "in use") {
		t.Errorf("the taken port is reported as %q, want why it is not open", reason)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := get(newClient(t), fmt.Sprintf("127.0.0.1:%d", port))
		answered <- err
	}()
	await(t, "the request is there", nil, func() bool { return p.present.Load() == 1 })
	c.assign.SetPorts(hello)
	if _, open := state().Ports[port]; !open {
		t.Error("the port is gone while a request is in flight")
	}
	close(p.hold)
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	await(t, "the port is closed", a.out.String, func() bool { _, open := state().Ports[port]; return !open })
}

// TestAPortLeadsElsewhere re-points a port under load, while streams of the revision before are open: no request fails, none
// that was sent after the first answer of the new one goes to the old one, and the streams finish.
func TestAPortLeadsElsewhere(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	revs, pods := [2]identity.Revision{}, [2]*pod{}
	for i, name := range []string{"blue", "green"} {
		revs[i] = identity.Revision{Namespace: "default", Name: name, UID: name}
		pods[i] = newPod(t, name, time.Millisecond)
	}
	c.put(revs[0], pods[0])
	c.put(revs[1], pods[1])
	c.assign.Own(0, 1)
	a := launch(t, c, "a", "--drain-minimum=2s")
	port := freePort(t)
	c.assign.SetPorts(revs[0], port)
	await(t, "the port is open", a.out.String, func() bool { return a.opened(port) })
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	var said, seen atomic.Int64 // changes that control has said, and of which an answer came from where the port leads then
	stop := make(chan struct{})
	var clients sync.WaitGroup
	defer clients.Wait()
	defer close(stop)
	client := newClient(t)
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				known := seen.Load()
				got, err := get(client, addr)
				switch {
				case err != nil:
					t.Error(err)
					return
				case got == pods[known%2].uid:
				case said.Load() > known:
					seen.CompareAndSwap(known, known+1)
				default:
					t.Errorf("%s answers a request that was sent after %s had answered others", got, pods[known%2].uid)
				}
			}
		})
	}
	for i := range 20 {
		from, to := i%2, (i+1)%2
		stream := pods[from].stream(t, addr)
		said.Add(1)
		if i%4 < 2 { // either may be heard of first
			c.assign.SetPorts(revs[to], port)
			c.assign.SetPorts(revs[from])
		} else {
			c.assign.SetPorts(revs[from])
			c.assign.SetPorts(revs[to], port)
		}
		served := pods[to].served.Load()
		await(t, "the other one is asked", a.out.String, func() bool { return pods[to].served.Load() > served+20 || t.Failed() })
		if got := stream(); got != []string{"blue", "green"}[from] {
			t.Errorf("the stream that was open got %q", got)
		}
		if !a.opened(port) {
			t.Error("the port is not open any more for control")
		}
	}
}

// TestAPortOfASleepingRevisionLeadsElsewhere: what is parked there wakes the other one.
func TestAPortOfASleepingRevisionLeadsElsewhere(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	blue, green := identity.Revision{Namespace: "default", Name: "blue", UID: "1"}, identity.Revision{Namespace: "default", Name: "green", UID: "2"}
	c.put(blue)
	c.put(green)
	c.assign.Own(0, 1)
	a := launch(t, c, "a")
	port := freePort(t)
	c.assign.SetPorts(blue, port)
	await(t, "the port is open", a.out.String, func() bool { return a.opened(port) })
	answered := make(chan string, 1)
	go func() {
		body, err := get(newClient(t), fmt.Sprintf("127.0.0.1:%d", port))
		answered <- fmt.Sprint(body, err)
	}()
	await(t, "it is parked", a.out.String, func() bool { return c.demand.of("blue") > 0 })
	c.assign.SetPorts(green, port)
	c.assign.SetPorts(blue)
	await(t, "the other one is to be woken", a.out.String, func() bool { return c.demand.of("green") > 0 })
	c.assign.Endpoints(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: green, Version: 1, Endpoints: []endpoint.Endpoint{newPod(t, "p", 0).endpoint()}}})
	if got := <-answered; got != "p<nil>" {
		t.Errorf("the parked request got %q, want the other's answer", got)
	}
}

// TestAPortOfARecreatedRevision: its successor has the port at once, though a stream of the one before is open.
func TestAPortOfARecreatedRevision(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	before := newPod(t, "before", 0)
	c.tell(1, 0, before)
	a := launch(t, c, "a", "--drain-minimum=1m")
	port := freePort(t)
	c.assign.SetPorts(hello, port)
	await(t, "the port is open", a.out.String, func() bool { return a.opened(port) })
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	client := newClient(t)
	for i := range 3 {
		stream := before.stream(t, addr)
		old, next := hello, hello
		old.UID, next.UID = fmt.Sprint("u", i+1), fmt.Sprint("u", i+2)
		after := newPod(t, fmt.Sprint("after", i), 0)
		c.assign.RemoveRevision(old)
		c.put(next, after)
		c.assign.SetPorts(next, port)
		var answers []string // a moment in which nobody has the port is not ours
		await(t, "the successor answers", a.out.String, func() bool {
			got, err := get(client, addr)
			answers = append(answers, fmt.Sprint(got, err))
			return err == nil && got == after.uid
		})
		for range 50 {
			if got, err := get(client, addr); err != nil || got != after.uid {
				t.Fatalf("after the successor's first answer: %q, %v", got, err)
			}
		}
		if len(answers) > 20 {
			t.Errorf("%d requests went astray, such as %q", len(answers)-1, answers[0])
		}
		if got := stream(); got != before.uid {
			t.Errorf("the stream that was open got %q", got)
		}
		before = after
	}
}

// TestSecondSignal ends at once, whatever is in flight.
func TestSecondSignal(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	p := newPod(t, "p1", 0)
	p.hold = make(chan struct{})
	defer close(p.hold)
	c.tell(1, 0, p)
	a := launch(t, c, "a")
	go func() { _, _ = get(newClient(t), a.addr) }() // it is cut
	await(t, "the request is there", nil, func() bool { return p.present.Load() == 1 })
	a.signal(syscall.SIGTERM)
	await(t, "it drains", a.out.String, func() bool {
		for _, st := range c.assign.Activators() {
			if st.Draining {
				return true
			}
		}
		return false
	})
	a.signal(syscall.SIGTERM) // repeated by whoever deletes the pod: it does not insist
	a.signal(syscall.SIGINT)
	if err := a.cmd.Wait(); err == nil || !strings.Contains(a.out.String(), "second signal") {
		t.Errorf("it ended with %v and\n%s\nwant an error that names the second signal", err, a.out)
	}
}

// TestLeasesComeBack: a goodbye frees slots at once, a kill after the time that control keeps them.
func TestLeasesComeBack(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	p := newPod(t, "p1", 0)
	c.tell(1, 6)
	one, two, three := launch(t, c, "one"), launch(t, c, "two"), launch(t, c, "three")
	c.endpoints(2, p)
	leases := func() map[string]int {
		out := map[string]int{}
		for instance, n := range c.assign.Leases(hello, "p1") {
			out[firstPart(instance)] = n
		}
		return out
	}
	await(t, "all have a share", nil, func() bool { l := leases(); return l["one"] == 2 && l["two"] == 2 && l["three"] == 2 })
	two.signal(syscall.SIGTERM)
	if err := two.cmd.Wait(); err != nil {
		t.Errorf("an orderly end: %v\n%s", err, two.out)
	}
	await(t, "its slots are with the others", nil, func() bool { l := leases(); return l["one"] == 3 && l["three"] == 3 && l["two"] == 0 })
	three.signal(syscall.SIGKILL)
	await(t, "its slots are with the other", nil, func() bool { l := leases(); return l["one"] == 6 && l["three"] == 0 })
	if _, err := get(newClient(t), one.addr); err != nil {
		t.Error(err)
	}
}

// TestNothingIsTakenAfterTheGoodbye: the grace ends while a request of a port is in flight. Until that is cut the leases are
// in use; once they are given back nobody is let in any more, nowhere.
func TestNothingIsTakenAfterTheGoodbye(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	p := newPod(t, "p1", 0)
	p.hold = make(chan struct{})
	defer close(p.hold)
	c.tell(1, 1)
	a := launch(t, c, "a", "--grace=200ms")
	c.endpoints(2, p)
	port := freePort(t)
	c.assign.SetPorts(hello, port)
	await(t, "the port is open", a.out.String, func() bool { return a.opened(port) })
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		_, _ = get(newClient(t), fmt.Sprintf("127.0.0.1:%d", port)) // it is cut
	}()
	await(t, "the request is there", nil, func() bool { return p.present.Load() == 1 })
	a.signal(syscall.SIGTERM)
	await(t, "the leases are back", a.out.String, func() bool { return len(c.assign.Leases(hello, "p1")) == 0 })
	for _, addr := range []string{a.addr, fmt.Sprintf("127.0.0.1:%d", port)} {
		if conn, err := net.Dial("tcp", addr); err == nil { //nolint:noctx // of this machine
			conn.Close()
			t.Errorf("%s takes requests when the leases have been given back", addr)
		}
	}
	<-cut
	if err := a.cmd.Wait(); err == nil || !strings.Contains(a.out.String(), "--grace=200ms") {
		t.Errorf("it ended with %v and\n%s\nwant an error that names the grace", err, a.out)
	}
}

// TestADrainingPodIsIdleOnceAllSaySo: whoever stops pods may wait for every activator.
func TestADrainingPodIsIdleOnceAllSaySo(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	p := newPod(t, "p1", 0)
	p.hold = make(chan struct{})
	c.tell(1, 0, p)
	a := launch(t, c, "a")
	launch(t, c, "b")
	answered := make(chan error, 1)
	go func() {
		_, err := get(newClient(t), a.addr)
		answered <- err
	}()
	await(t, "the request is there", nil, func() bool { return p.present.Load() == 1 })
	draining := p.endpoint()
	draining.State = endpoint.Draining
	c.assign.Endpoints(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: hello, Version: 2, Endpoints: []endpoint.Endpoint{draining}}})
	idle := make(chan struct{})
	go func() { c.assign.AwaitIdle(t.Context(), hello, "p1"); close(idle) }()
	await(t, "the load is known", nil, func() bool { _, n := c.assign.Load(hello); return n == 1 })
	select {
	case <-idle:
		t.Error("idle while a request is in flight")
	default:
	}
	close(p.hold)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-idle
}
