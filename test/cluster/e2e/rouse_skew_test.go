package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// version is which of two versions a program is of: what the name of its image begins with.
type version string

const (
	current  version = ""
	previous version = "previous-"
)

func (v version) String() string {
	if v == previous {
		return "old"
	}
	return "new"
}

// programs are the versions of those that talk to each other.
type programs struct{ control, activator, sidecar version }

func (p programs) String() string {
	return fmt.Sprintf("%v control, %v activator, %v queue-proxy", p.control, p.activator, p.sidecar)
}

func (p programs) images() map[string]version {
	return map[string]version{"autoscaler": p.control, "activator": p.activator, "queueproxy": p.sidecar}
}

// run makes a manifest run these programs.
func (p programs) run(manifest string) string {
	for name, v := range p.images() {
		manifest = strings.ReplaceAll(manifest, fmt.Sprintf("{{image %q}}", name), fmt.Sprintf("{{image %q}}", string(v)+name))
	}
	return manifest
}

// check fails the test when other versions run than these: then it would say nothing.
func (p programs) check(t *testing.T, c *harness.Cluster) {
	t.Helper()
	seen := map[string]bool{}
	for _, pod := range c.Pods("app in (autoscaler,activator,hello)") {
		if pod.DeletionTimestamp != nil {
			continue
		}
		for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
			name := strings.ReplaceAll(container.Name, "-", "")
			v, ours := p.images()[name]
			if ours && container.Image != c.Image(string(v)+name) {
				t.Errorf("%s runs %s, want the %v one", pod.Name, container.Image, v)
			}
			seen[name] = seen[name] || ours
		}
	}
	for name := range p.images() {
		if !seen[name] {
			t.Errorf("no %s runs", name)
		}
	}
}

// TestRouseSkew: the programs of this version beside those of the version before, as a rolling upgrade leaves them.
func TestRouseSkew(t *testing.T) {
	if _, err := os.Stat(filepath.Join(os.Getenv(harness.EnvImages), string(previous)+"autoscaler")); err != nil {
		t.Fatalf("%v; `make e2e-skew` builds the version before this one", err)
	}
	for i := range 8 {
		p := programs{previous, previous, previous}
		for bit, v := range []*version{&p.control, &p.activator, &p.sidecar} {
			if i>>bit&1 == 1 {
				*v = current
			}
		}
		if i != 0 && i != 7 { // those are no mixture
			t.Run(p.String(), func(t *testing.T) { together(t, p) })
		}
	}
	t.Run("upgrade and downgrade", inPlace)
	t.Run("control of both versions", sharing)
}

// ways are the two ways a request can take, by target-burst-capacity.
var ways = []struct{ burst, behind string }{{"-1", "activators"}, {"0", "pods"}}

// together takes a workload through its life: from zero, loaded while pods are replaced, on both ways, to zero.
func together(t *testing.T, p programs) {
	c := installed(t, p.run(system))
	c.Apply(p.run(hello(0, "")))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	if r := c.Get(url + "/"); r.Status != 200 {
		t.Fatalf("from zero: %d %q", r.Status, r.Body)
	}
	p.check(t, c)
	annotate(t, c, "min-scale", "2")
	for _, way := range ways {
		annotate(t, c, "target-burst-capacity", way.burst)
		c.WaitDeployment("hello", 2)
		waitBehind(t, c, way.behind)
		underLoad(t, c, url, func() {
			for range long(2, 10) {
				lasting(c, time.Second)
				replaceOne(t, c)
				c.WaitDeployment("hello", 2)
			}
			lasting(c, time.Second)
		})
	}
	annotate(t, c, "min-scale", "0")
	awaitAsleep(c, "hello")
}

// replaceOne deletes a pod of hello, and returns once its Deployment has heard of it.
func replaceOne(t *testing.T, c *harness.Cluster) {
	t.Helper()
	pods := c.Pods("app=hello")
	i := slices.IndexFunc(pods, alive)
	if i < 0 {
		t.Fatal("no pod is left to be deleted")
	}
	if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, pods[i].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	victim := pods[i].Name
	gone := func(p corev1.Pod) bool { return !alive(p) }
	before := len(slices.DeleteFunc(pods, gone))
	c.Eventually(30*time.Second, "its successor is made", func() error {
		now := slices.DeleteFunc(c.Pods("app=hello"), gone)
		if len(now) != before || slices.ContainsFunc(now, func(p corev1.Pod) bool { return p.Name == victim }) {
			return fmt.Errorf("%d pods", len(now))
		}
		return nil
	})
}

// step is one program's turn in an upgrade.
type step struct{ kind, object, container, image string }

// upgrade is the order of docs/kubernetes.md; the way back is the reverse.
var upgrade = []step{
	{"statefulset", "autoscaler", "autoscaler", "autoscaler"},
	{"deployment", "activator", "activator", "activator"},
	{"deployment", "hello", "queue-proxy", "queueproxy"},
}

// roll gives a step's pods another version with the commands of docs/kubernetes.md, and waits until all have it.
func (s step) roll(t *testing.T, c *harness.Cluster, to version, replicas int32) {
	t.Helper()
	object := s.kind + "/" + s.object
	for _, args := range [][]string{{"set", "image", object, s.container + "=" + c.Image(string(to)+s.image)}, {"rollout", "status", object, "--timeout=90s"}} {
		if out, err := c.Kubectl(args...); err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, out)
		}
	}
	if s.kind == "deployment" {
		c.WaitDeployment(s.object, replicas)
	}
}

// inPlace upgrades everything under load, step by step, and goes back the same way.
func inPlace(t *testing.T) {
	before := programs{previous, previous, previous}
	c := installed(t, before.run(system))
	const pods = 3
	c.Apply(before.run(hello(pods, "", `min-scale: "3"`, `target-burst-capacity: "-1"`)))
	c.WaitDeployment("hello", pods)
	waitBehind(t, c, "activators")
	url := waitReachable(c)
	back := slices.Clone(upgrade)
	slices.Reverse(back)
	move := func(t *testing.T, steps []step, to version) {
		underLoad(t, c, url, func() {
			for _, s := range steps {
				began := time.Now()
				s.roll(t, c, to, map[string]int32{"autoscaler": 2, "activator": 2, "hello": pods}[s.object])
				t.Logf("%s is %v after %v", s.image, to, time.Since(began).Round(time.Millisecond))
				lasting(c, long(time.Second, 10*time.Second))
			}
		})
		programs{to, to, to}.check(t, c)
	}
	rounds := ways[:long(1, 2)]
	for _, way := range rounds {
		annotate(t, c, "target-burst-capacity", way.burst)
		waitBehind(t, c, way.behind)
		t.Run("up, through "+way.behind, func(t *testing.T) { move(t, upgrade, current) })
		other := ways[1]
		if way == other {
			other = ways[0]
		}
		annotate(t, c, "target-burst-capacity", other.burst)
		waitBehind(t, c, other.behind)
		t.Run("back, through "+other.behind, func(t *testing.T) { move(t, back, previous) })
	}
}

// sharing lets two instances of control share the work while the one is of another version than the other, both ways
// round, and looks at what they keep in the API server.
func sharing(t *testing.T) {
	p := programs{previous, current, current}
	c := installed(t, p.run(system))
	s := &sleepers{c: c, urls: map[string]string{}}
	add := func(prefix string, n int) {
		for i := range n {
			s.add(t, fmt.Sprint(prefix, i), p.run(hello(0, "")))
		}
	}
	add("w", 6)
	book := portBook(t, c)
	control := upgrade[0]
	partition := func(n int) {
		patch := fmt.Appendf(nil, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, n)
		if _, err := c.Client.AppsV1().StatefulSets(c.Namespace).Patch(c.Context, control.object, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mixed := func(what string, to version) {
		partition(1)
		control.roll(t, c, to, 2)
		t.Run(what, func(t *testing.T) {
			add("w-"+to.String(), 2)
			s.calm(t)
			now := portBook(t, c)
			for port, holder := range book {
				if now[port] != holder {
					t.Errorf("port %s was that of %s, and is that of %q", port, holder, now[port])
				}
			}
			if len(now) <= len(book) {
				t.Errorf("%d ports after two more workloads, want more than %d", len(now), len(book))
			}
			book = now
			s.wake(t)
		})
		partition(0)
		control.roll(t, c, to, 2)
	}
	mixed("autoscaler-0 old, autoscaler-1 new", current)
	mixed("autoscaler-0 new, autoscaler-1 old", previous)
	for _, pod := range []string{"autoscaler-0", "autoscaler-1"} {
		if logs := c.Logs(pod, "autoscaler"); strings.Contains(logs, "an activator port is not usable") {
			t.Errorf("%s can't read the book of ports", pod)
		}
	}
}

// portBook reads who has which port; nobody may have two.
func portBook(t *testing.T, c *harness.Cluster) map[string]string {
	t.Helper()
	m, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(c.Context, "rouse-ports", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for port, holder := range m.Data {
		if other := seen[holder]; other != "" {
			t.Errorf("%s has ports %s and %s", holder, port, other)
		}
		seen[holder] = port
	}
	return m.Data
}

// wake asks for every sleeping workload, and each must be decided about by the instance that owns it.
func (s *sleepers) wake(t *testing.T) {
	t.Helper()
	began := time.Now()
	for name, o := range s.ask()() {
		if o.err != nil {
			t.Errorf("%s from zero: %v", name, o.err)
		}
	}
	owned := map[string]int{}
	woken := wakings(s.c, began)
	for _, name := range s.names {
		owned[s.owner[name]]++
		if w := woken[name]; w.by != s.owner[name] {
			t.Errorf("%s was woken by %q, and %s owns it", name, w.by, s.owner[name])
		}
	}
	t.Logf("woken by their owners: %v", owned)
}

// alive says whether a pod is not on its way out.
func alive(p corev1.Pod) bool { return p.DeletionTimestamp == nil }
