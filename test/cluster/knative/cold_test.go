package knative

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// sleepers is how many revisions take turns: each goes back to zero while the others are woken.
const sleepers = 5

// contestant is one way to run a revision, and how to see what becomes of it.
type contestant struct {
	name       string
	deployment func(revision) string
	selector   func(revision) string // of its pods
	deploy     func(revision)
	url        func(revision) string
	header     func(revision) http.Header // nil: none
	sleeps     func(revision)             // blocks until the revision is at zero and a request would wake it
	decided    func(r revision, began time.Time) time.Time
	patching   func() (total time.Duration, calls int) // how long the API server has taken to answer so far; nil: nobody counts that
}

// with is Knative with the two programs of a column.
func (in *installation) with(c column) contestant {
	return contestant{
		name: c.name, deployment: func(r revision) string { return r.String() + "-deployment" },
		selector: func(r revision) string { return "serving.knative.dev/revision=" + r.String() },
		deploy:   in.deploy, url: in.url, header: in.header,
		sleeps: func(r revision) { in.sleepsWith(r, c) }, decided: in.decided,
	}
}

// coldStarts shows each step of a cold start beside Knative's, in turns: autoscaler, controllers and kubelet are the same, so what differs is ours.
func coldStarts(t *testing.T, in *installation) {
	all := sleeping("sleeper", nil)
	for _, r := range all {
		in.deploy(r)
	}
	pair := []column{columns[0], columns[len(columns)-1]}
	seen := make(map[string][]phases)
	for range 2 {
		for _, c := range pair {
			in.use(c)
			for range long(1, 2) {
				in.wakeAll(in.with(c), all, seen)
			}
		}
	}
	for _, c := range pair {
		t.Logf("%s: median of %d cold starts: %v", c.name, len(seen[c.name]), median(seen[c.name]))
	}
}

// coldStartsBeside is the same for Rouse without Knative, whose Services stand beside Knative's own. Pods of the second pair have no token of their
// ServiceAccount, and so no volume: kubelet looks for volumes every 300 ms, whoever made the pod.
func coldStartsBeside(t *testing.T, in *installation) {
	theirs, ours := in.with(columns[0]), in.plain()
	for _, token := range []bool{true, false} {
		bare := func(r *revision) { r.tokenless = !token }
		knative, plain := sleeping("theirs"+suffix(token), bare), sleeping("ours"+suffix(token), bare)
		for i := range sleepers {
			theirs.deploy(knative[i])
			ours.deploy(plain[i])
		}
		seen := make(map[string][]phases)
		before := in.coldPhases()
		for range long(1, 4) {
			in.allSleep(ours, plain)
			in.wakeAll(theirs, knative, seen)
			in.allSleep(theirs, knative)
			in.wakeAll(ours, plain, seen)
		}
		in.logPhases(before)
		a, b := median(seen[theirs.name]), median(seen[ours.name])
		t.Logf("pods with a token: %t; medians of %d cold starts", token, len(seen[ours.name]))
		t.Logf("%s: %v", theirs.name, a)
		t.Logf("%s: %v: %.2f×", ours.name, b, float64(b.answered)/float64(a.answered))
	}
}

func suffix(token bool) string {
	if token {
		return "-token"
	}
	return "-bare"
}

// sleeping makes revisions of a name with a number each.
func sleeping(name string, change func(*revision)) (all []revision) {
	for i := range sleepers {
		r := revision{name: fmt.Sprint(name, i)}
		if change != nil {
			change(&r)
		}
		all = append(all, r)
	}
	return all
}

// allSleep waits until all of them do: pods that go would take time from those that come.
func (in *installation) allSleep(c contestant, all []revision) {
	in.t.Helper()
	for _, r := range all {
		c.sleeps(r)
	}
}

// wakeAll sends a request to each, one after the other, when all of them sleep.
func (in *installation) wakeAll(c contestant, all []revision, seen map[string][]phases) {
	in.t.Helper()
	in.allSleep(c, all)
	for _, r := range all {
		p := in.coldStart(c, r)
		in.t.Logf("%s, %s: %v", c.name, r.name, p)
		seen[c.name] = append(seen[c.name], p)
	}
}

// coldStart sends one request to a revision that sleeps.
func (in *installation) coldStart(c contestant, r revision) phases {
	in.t.Helper()
	w := in.follow(c, r)
	defer w.stop()
	url, header := c.url(r), http.Header{}
	if c.header != nil {
		header = c.header(r)
	}
	patching := c.counted()
	began := time.Now()
	resp, err := harness.Send(in.Context, http.MethodGet, url+"/", header, nil)
	p := phases{answered: time.Since(began)}
	if err != nil || resp.Status != http.StatusOK {
		in.t.Fatalf("%s, %s: status %d %q (%v), want 200", c.name, r.name, resp.Status, resp.Body, err)
	}
	in.Eventually(soon, "the watches have shown the cold start", func() error {
		seen := w.seen()
		if seen.patched.IsZero() || seen.pod.IsZero() || seen.address.IsZero() {
			return fmt.Errorf("seen %+v", seen)
		}
		p.patched, p.pod, p.address = seen.patched.Sub(began), seen.pod.Sub(began), seen.address.Sub(began)
		return nil
	})
	name := alive(in.Pods(c.selector(r)))[0].Name
	p.serving = in.serving(name).Sub(began)
	for _, e := range in.Told(name, "user-container") {
		switch e.What {
		case "start":
			p.started = e.At.Sub(began)
		case "listening":
			p.listening = e.At.Sub(began)
		}
	}
	p.decided, p.firstByte = c.decided(r, began).Sub(began), p.answered-p.listening
	if took := patching(); took > 0 {
		p.accepted = p.decided + took
	}
	return p
}

// counted begins to count, and returns how long the one call took that came since, 0 when that is not known.
func (c contestant) counted() func() time.Duration {
	if c.patching == nil {
		return func() time.Duration { return 0 }
	}
	before, n := c.patching()
	return func() time.Duration {
		if after, now := c.patching(); now == n+1 {
			return after - before
		}
		return 0
	}
}

// sleepsWith waits until a revision is at zero with this column's queue-proxy in its template, and behind this column's activators.
func (in *installation) sleepsWith(r revision, c column) {
	in.t.Helper()
	in.awaitZero(r)
	in.WaitGone("serving.knative.dev/revision="+r.String(), 2*time.Minute)
	in.awaitQueue(r, c)
	in.awaitActivator(in.url(r), in.header(r))
}

// awaitActivator waits until kube-proxy leads to an activator, with the question that wakes nobody.
func (in *installation) awaitActivator(url string, header http.Header) {
	in.t.Helper()
	question := http.Header{"K-Network-Probe": {"activator"}}
	maps.Copy(question, header)
	in.Eventually(soon, "kube-proxy knows the activators", func() error {
		resp, err := harness.Send(in.Context, http.MethodGet, url+"/", question, nil)
		if err == nil && (resp.Status != http.StatusOK || resp.Body != "activator") {
			err = fmt.Errorf("%d %q", resp.Status, resp.Body)
		}
		return err
	})
}

// awaitQueue waits until the controller has put this column's queue-proxy into the revision's Deployment.
func (in *installation) awaitQueue(r revision, c column) {
	in.t.Helper()
	in.Eventually(soon, "the template has "+c.queue, func() error {
		for _, container := range in.Deployment(r.String() + "-deployment").Spec.Template.Spec.Containers {
			if container.Name == "queue-proxy" && !strings.Contains(container.Image, c.queue) {
				return fmt.Errorf("it has %s", container.Image)
			}
		}
		return nil
	})
}

// decided is when Knative's autoscaler wrote down that it scales from zero.
func (in *installation) decided(r revision, began time.Time) (first time.Time) {
	in.t.Helper()
	in.eachLogLine(system, "app=autoscaler", began, func(line string) {
		var l struct{ Timestamp time.Time }
		if first.IsZero() && strings.Contains(line, "Scaling from 0") && strings.Contains(line, in.Namespace+"/"+r.String()) &&
			json.Unmarshal([]byte(line), &l) == nil && l.Timestamp.After(began) {
			first = l.Timestamp
		}
	})
	if first.IsZero() {
		in.t.Fatalf("the autoscaler's log does not say that it woke %s", r)
	}
	return first
}

// eachLogLine reads what pods of a namespace have written since a moment.
func (in *installation) eachLogLine(namespace, selector string, since time.Time, take func(string)) {
	in.t.Helper()
	pods, err := in.Client.CoreV1().Pods(namespace).List(in.Context, metav1.ListOptions{LabelSelector: selector})
	if err != nil || len(pods.Items) == 0 {
		in.t.Fatalf("pods %s in %s: %d (%v)", selector, namespace, len(pods.Items), err)
	}
	for i := range pods.Items {
		b, err := in.Client.CoreV1().Pods(namespace).GetLogs(pods.Items[i].Name, &corev1.PodLogOptions{SinceTime: &metav1.Time{Time: since}}).DoRaw(in.Context)
		if err != nil {
			in.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			take(line)
		}
	}
}
