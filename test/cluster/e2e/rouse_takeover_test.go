package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// instances are those of control in system, and buckets is how many they share: the default of ROUSE_BUCKETS.
var instances = []string{"autoscaler-0", "autoscaler-1"}

const buckets = 16

// promise is that of docs/kubernetes.md: by then another instance decides about what a dead one owned.
const promise = 10 * time.Second

// TestRouseTakeover: an instance of control goes while workloads sleep, and in this moment each of them is asked for.
func TestRouseTakeover(t *testing.T) {
	c := install(t)
	s := newSleepers(t, c, long(6, 12))
	for _, victim := range instances[:long(1, 2)] {
		t.Run("killed", func(t *testing.T) {
			s.calm(t)
			c.Signal(victim, "autoscaler", syscall.SIGKILL) // kubelet starts it again at once
			s.takeover(t, victim, promise)
		})
		t.Run("killed again", func(t *testing.T) {
			s.calm(t)
			c.Signal(victim, "autoscaler", syscall.SIGKILL) // now kubelet lets it lie for 10 s
			s.takeover(t, victim, promise)
		})
		t.Run("frozen", func(t *testing.T) {
			s.calm(t)
			thaw := s.freeze(victim)
			began := time.Now()
			s.takeover(t, victim, promise)
			lasting(c, time.Until(began.Add(frost)))
			if n := held(c, other(victim)); n != buckets {
				t.Errorf("%s holds %v buckets while %s is frozen, want all", other(victim), n, victim)
			}
			thaw()
			awaitShares(c)
		})
	}
	t.Run("killed, and the API server stops", func(t *testing.T) { s.withoutServer(t, instances[1]) })
}

// frost is how long a frozen instance stays so.
const frost = 15 * time.Second

func other(instance string) string {
	if instance == instances[0] {
		return instances[1]
	}
	return instances[0]
}

// sleepers are workloads without pods, of which each instance owns some.
type sleepers struct {
	c     *harness.Cluster
	names []string
	urls  map[string]string
	owner map[string]string // as it was before the last fault
}

func newSleepers(t *testing.T, c *harness.Cluster, n int) *sleepers {
	t.Helper()
	s := &sleepers{c: c, urls: map[string]string{}}
	for i := 0; i < n || !s.both(t) && i < n+20; i++ {
		s.add(t, fmt.Sprint("w", i), hello(0, ""))
	}
	return s
}

// add makes another one: hello under another name.
func (s *sleepers) add(t *testing.T, name, hello string) {
	t.Helper()
	s.c.Apply(strings.ReplaceAll(hello, "hello", name))
	s.names = append(s.names, name)
	s.urls[name] = s.c.URL(name, 80)
	awaitProxy(s.c, s.urls[name])
}

// both says whether each instance owns some.
func (s *sleepers) both(t *testing.T) bool {
	t.Helper()
	owned := map[string]bool{}
	for _, name := range s.names {
		owned[ownerOf(t, s.c, name)] = true
	}
	return len(owned) == len(instances)
}

// calm waits until everybody sleeps and the work is shared, and notes by whom.
func (s *sleepers) calm(t *testing.T) {
	t.Helper()
	for _, name := range s.names {
		awaitAsleep(s.c, name)
	}
	awaitShares(s.c)
	s.owner = map[string]string{}
	for _, name := range s.names {
		s.owner[name] = ownerOf(t, s.c, name)
	}
}

// freeze stops an instance's process where it is; thaw lets it go on.
func (s *sleepers) freeze(victim string) (thaw func()) {
	s.c.Signal(victim, "autoscaler", syscall.SIGSTOP)
	return func() { s.c.Signal(victim, "autoscaler", syscall.SIGCONT) }
}

// outcome is what became of a request.
type outcome struct {
	err   error
	after time.Duration
}

// ask sends one request to each workload at once; the function that it returns waits for the outcomes.
func (s *sleepers) ask() (outcomes func() map[string]outcome) {
	var asking sync.WaitGroup
	var mu sync.Mutex
	all := map[string]outcome{}
	for name, url := range s.urls {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(s.c.Context, 2*time.Minute)
			defer cancel()
			began := time.Now()
			r, err := harness.Send(ctx, http.MethodGet, url+"/", nil, nil)
			if err == nil && r.Status != http.StatusOK {
				err = fmt.Errorf("%d %q", r.Status, r.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			all[name] = outcome{err, time.Since(began)}
		})
	}
	return func() map[string]outcome { asking.Wait(); return all }
}

// takeover asks every workload for something now that the victim is gone. Each must be decided about within that time,
// and answered.
func (s *sleepers) takeover(t *testing.T, victim string, within time.Duration) {
	t.Helper()
	began := time.Now()
	outcomes := s.ask()
	woken := map[string]waking{}
	err := s.c.Try(within, func() error {
		woken = wakings(s.c, began)
		for _, name := range s.names {
			if _, ok := woken[name]; !ok {
				return fmt.Errorf("nobody has decided about %s, which was %s's", name, s.owner[name])
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v after %s went: %v", within, victim, err)
	}
	var late time.Duration
	for name, o := range outcomes() {
		w := woken[name]
		decided := w.at.Sub(began).Round(time.Millisecond)
		t.Logf("%s, which was %s's: decided by %s after %v, answered after %v", name, s.owner[name], w.by, decided, o.after.Round(time.Millisecond))
		if o.err != nil {
			t.Errorf("%s: %v", name, o.err)
		}
		late = max(late, decided)
	}
	t.Logf("the last one was decided about %v after %s went", late, victim)
}

// withoutServer kills an instance just before the API server stops. Nothing else ends, and requests go on; afterwards
// everything is decided about again.
func (s *sleepers) withoutServer(t *testing.T, victim string) {
	s.c.Apply(hello(1, "", `min-scale: "1"`, `target-burst-capacity: "-1"`))
	waitBehind(t, s.c, "activators")
	url := waitReachable(s.c)
	s.calm(t)
	before := restarts(s.c)
	underLoad(t, s.c, url, func() {
		s.c.Signal(victim, "autoscaler", syscall.SIGKILL)
		s.c.Stop(harness.APIServer)
		lasting(s.c, long(10*time.Second, 30*time.Second))
		s.c.Start(harness.APIServer)
		s.takeover(t, victim, 2*promise) // the watches have to come back, too
	})
	for name, n := range restarts(s.c) {
		if n != before[name] && name != victim {
			t.Errorf("%s has been started again", name)
		}
	}
}

// restarts tells how often each of Rouse's own pods was started again.
func restarts(c *harness.Cluster) map[string]int32 {
	all := map[string]int32{}
	for _, p := range c.Pods("app in (autoscaler,activator)") {
		all[p.Name] = p.Status.ContainerStatuses[0].RestartCount
	}
	return all
}

// TestRouseThaw: an instance is frozen while load rises. What it believed is old when it goes on: it may neither undo
// what the other has decided, nor take the reports that have piled up for load.
func TestRouseThaw(t *testing.T) {
	c := install(t)
	c.Apply(hello(1, "", `min-scale: "1"`, `target: "4"`, `target-burst-capacity: "-1"`))
	c.WaitDeployment("hello", 1)
	waitBehind(t, c, "activators")
	url := waitReachable(c)
	awaitShares(c)
	victim := ownerOf(t, c, "hello")
	load := harness.Load{URL: url + "/sleep?for=500ms", Rate: 16, KeepAlive: true} // 8 at a time: 3 pods at 70 % of 4
	ctx, stop := context.WithCancel(c.Context)
	report := make(chan *harness.Report, 1)
	c.Signal(victim, "autoscaler", syscall.SIGSTOP)
	began := time.Now()
	go func() { report <- load.Run(ctx) }()
	replicas := func() int32 { return *c.Deployment("hello").Spec.Replicas }
	c.Eventually(2*promise, "the other instance meets the load", func() error {
		if n := replicas(); n < 3 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	t.Logf("%s met the load of what was %s's after %v", other(victim), victim, time.Since(began).Round(time.Millisecond))
	lasting(c, time.Until(began.Add(frost)))
	before := replicas()
	c.Signal(victim, "autoscaler", syscall.SIGCONT)
	least, most := before, before
	c.Never(2*promise, "", func() error { least, most = min(least, replicas()), max(most, replicas()); return nil })
	t.Logf("%d replicas when it went on, then %d to %d", before, least, most)
	if least < 2 || most > before+3 {
		t.Errorf("%d to %d replicas after %s went on, with %d before, and the load is what it was", least, most, victim, before)
	}
	if ownerOf(t, c, "hello") != victim {
		t.Errorf("%s has not got its share back", victim)
	}
	stop()
	r := <-report
	t.Logf("%d requests, %d failed", r.Sent, len(r.Failures))
	for i, f := range r.Failures[:min(len(r.Failures), 10)] {
		t.Errorf("failure %d: %s", i, f)
	}
}

// waking is that an instance decided to wake a workload.
type waking struct {
	by string
	at time.Time
}

// wakings reads from the logs who was the first to wake what, since an instant.
func wakings(c *harness.Cluster, since time.Time) map[string]waking {
	all := map[string]waking{}
	for _, pod := range instances {
		// One that is dead has no log now and then.
		text, err := c.Client.CoreV1().Pods(c.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: "autoscaler"}).DoRaw(c.Context)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var l struct {
				Time          time.Time
				Msg, Revision string
			}
			if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "waking" || l.Time.Before(since) {
				continue
			}
			if w, known := all[l.Revision]; !known || l.Time.Before(w.at) {
				all[l.Revision] = waking{pod, l.Time}
			}
		}
	}
	return all
}

// admin asks an instance's admin page.
func admin(c *harness.Cluster, instance, path string) (string, error) {
	p, err := c.Client.CoreV1().Pods(c.Namespace).Get(c.Context, instance, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(c.Context, 2*time.Second)
	defer cancel()
	r, err := harness.Send(ctx, http.MethodGet, harness.At(p, 9090)+path, nil, nil)
	if err == nil && r.Status != http.StatusOK {
		err = fmt.Errorf("%s of %s: %d %q", path, instance, r.Status, r.Body)
	}
	return r.Body, err
}

// ownerOf waits until exactly one instance says that it decides about a workload, and returns which.
func ownerOf(t *testing.T, c *harness.Cluster, name string) (owner string) {
	t.Helper()
	c.Eventually(30*time.Second, name+" has one owner", func() error {
		var owners []string
		for _, instance := range instances {
			text, err := admin(c, instance, "/explain?service="+c.Namespace+"/"+name)
			if err != nil {
				return err
			}
			var all []struct{ Owner bool }
			if err := json.Unmarshal([]byte(text), &all); err != nil {
				return err
			}
			for _, e := range all {
				if e.Owner {
					owners = append(owners, instance)
				}
			}
		}
		if len(owners) != 1 {
			return fmt.Errorf("owned by %v", owners)
		}
		owner = owners[0]
		return nil
	})
	return owner
}

// held tells how many buckets an instance says that it holds; -1 when it doesn't answer.
func held(c *harness.Cluster, instance string) (n int) {
	text, err := admin(c, instance, "/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(text) {
		if _, err := fmt.Sscanf(line, "rouse_control_buckets_held %d", &n); err == nil {
			return n
		}
	}
	return -1
}

// awaitShares waits until each instance holds some buckets, all of them together, and the API server says the same.
func awaitShares(c *harness.Cluster) {
	c.Eventually(time.Minute, "the instances share the buckets", func() error {
		list, err := c.Client.CoordinationV1().Leases(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: "rouse.dev/lease=bucket"})
		if err != nil {
			return err
		}
		holders := map[string]int{}
		for _, l := range list.Items {
			holders[*l.Spec.HolderIdentity]++
		}
		sum := 0
		for _, instance := range instances {
			n := held(c, instance)
			if n <= 0 || n != holders[instance] {
				err = errors.Join(err, fmt.Errorf("%s holds %d, by the leases %d", instance, n, holders[instance]))
			}
			sum += n
		}
		if sum != buckets {
			err = errors.Join(err, fmt.Errorf("%d buckets are held", sum))
		}
		return err
	})
}

// awaitAsleep waits until a workload has no pods; when it keeps them, the instances say why.
func awaitAsleep(c *harness.Cluster, name string) {
	c.Eventually(2*time.Minute, name+" sleeps", func() error {
		n := *c.Deployment(name).Spec.Replicas
		if n == 0 {
			return nil
		}
		why := fmt.Sprintf("%d replicas", n)
		for _, instance := range instances {
			text, err := admin(c, instance, "/explain?format=text&service="+c.Namespace+"/"+name)
			why = fmt.Sprintf("%s\n%s (%v) %s", why, instance, err, text)
		}
		return errors.New(why)
	})
	c.WaitGone("app="+name, time.Minute)
}
