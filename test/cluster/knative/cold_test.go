package knative

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// sleepers is how many revisions take turns: each goes back to zero while the others are woken.
const sleepers = 5

// coldStarts shows each step of a cold start beside Knative's, in turns: autoscaler, controllers and kubelet are the same, so what differs is ours.
func coldStarts(t *testing.T, in *installation) {
	var all []revision
	for i := range sleepers {
		all = append(all, revision{name: fmt.Sprintf("sleeper%d", i)})
		in.deploy(all[i])
	}
	pair := []column{columns[0], columns[len(columns)-1]}
	times := 1
	if harness.Full() {
		times = 2
	}
	seen := make(map[string][]phases)
	for range 2 {
		for _, c := range pair {
			in.use(c)
			for range times {
				for _, r := range all {
					p := in.coldStart(r, c)
					t.Logf("%s, %s: %v", c.name, r, p)
					seen[c.name] = append(seen[c.name], p)
				}
			}
		}
	}
	for _, c := range pair {
		t.Logf("%s: median of %d cold starts: %v", c.name, len(seen[c.name]), median(seen[c.name]))
	}
}

// coldStart sends one request to a revision that sleeps.
func (in *installation) coldStart(r revision, c column) phases {
	in.t.Helper()
	in.sleepsWith(r, c)
	w := in.follow(r)
	defer w.stop()
	began := time.Now()
	in.must(r, "/", http.StatusOK)
	p := phases{answered: time.Since(began)}
	in.Eventually(soon, "the watches have shown the cold start", func() error {
		seen := w.seen()
		if seen.patched.IsZero() || seen.pod.IsZero() || seen.address.IsZero() || seen.endpoints.IsZero() {
			return fmt.Errorf("seen %+v", seen)
		}
		p.patched, p.pod = seen.patched.Sub(began), seen.pod.Sub(began)
		p.address, p.endpoints = seen.address.Sub(began), seen.endpoints.Sub(began)
		return nil
	})
	name := in.pods(r)[0].Name
	p.serving = in.serving(name).Sub(began)
	for _, e := range in.Told(name, "user-container") {
		switch e.What {
		case "start":
			p.started = e.At.Sub(began)
		case "listening":
			p.listening = e.At.Sub(began)
		}
	}
	p.decided, p.firstByte = in.decided(r, began).Sub(began), p.answered-p.listening
	return p
}

// sleepsWith waits until a revision is at zero with this column's queue-proxy in its template, and behind this column's activators.
func (in *installation) sleepsWith(r revision, c column) {
	in.t.Helper()
	in.awaitZero(r)
	in.WaitGone("serving.knative.dev/revision="+r.String(), 2*time.Minute)
	in.awaitQueue(r, c)
	in.Eventually(soon, "kube-proxy knows the activators", func() error {
		resp, err := harness.Send(in.Context, http.MethodGet, in.url(r)+"/", http.Header{
			"K-Network-Probe": {"activator"}, "Knative-Serving-Namespace": {in.Namespace}, "Knative-Serving-Revision": {r.String()},
		}, nil)
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

// serving is when a pod's queue-proxy wrote that it serves.
func (in *installation) serving(pod string) (at time.Time) {
	in.t.Helper()
	for line := range strings.Lines(in.Logs(pod, "queue-proxy")) {
		var l struct{ Time, Timestamp time.Time }
		if json.Unmarshal([]byte(line), &l) == nil && (strings.Contains(line, "QUEUE_SERVING_PORT") || strings.Contains(line, "http server main")) {
			return maxTime(l.Time, l.Timestamp)
		}
	}
	in.t.Fatalf("the queue-proxy of %s does not say that it serves", pod)
	return at
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// decided is when Knative's autoscaler wrote down that it scales from zero.
func (in *installation) decided(r revision, began time.Time) (first time.Time) {
	in.t.Helper()
	pods, err := in.Client.CoreV1().Pods(system).List(in.Context, metav1.ListOptions{LabelSelector: "app=autoscaler"})
	if err != nil || len(pods.Items) == 0 {
		in.t.Fatalf("autoscaler's pods: %d (%v)", len(pods.Items), err)
	}
	b, err := in.Client.CoreV1().Pods(system).GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{SinceTime: &metav1.Time{Time: began}}).DoRaw(in.Context)
	if err != nil {
		in.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var l struct{ Timestamp time.Time }
		if strings.Contains(line, "Scaling from 0") && strings.Contains(line, in.Namespace+"/"+r.String()) &&
			json.Unmarshal([]byte(line), &l) == nil && l.Timestamp.After(began) {
			return l.Timestamp
		}
	}
	in.t.Fatalf("the autoscaler's log does not say that it woke %s", r)
	return first
}

// phases are when each step of a cold start was over, counted from the moment in which the request was sent.
type phases struct {
	decided, patched, pod, started, listening, answered time.Duration
	serving                                             time.Duration // the queue-proxy
	address, endpoints                                  time.Duration // seen in the pod's status, and in the Endpoints of the private Service
	firstByte                                           time.Duration // counted from listening: what the two hops add
}

func (p phases) String() string {
	return fmt.Sprintf("decided %v, patch seen %v, pod object %v, process started %v, listening %v; queue-proxy serves %v, address %v, Endpoints %v; answered %v (listening to first byte %v)",
		ms(p.decided), ms(p.patched), ms(p.pod), ms(p.started), ms(p.listening), ms(p.serving), ms(p.address), ms(p.endpoints), ms(p.answered), ms(p.firstByte))
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// median takes each phase by itself.
func median(all []phases) (m phases) {
	for _, of := range []func(*phases) *time.Duration{
		func(p *phases) *time.Duration { return &p.decided }, func(p *phases) *time.Duration { return &p.patched },
		func(p *phases) *time.Duration { return &p.pod }, func(p *phases) *time.Duration { return &p.started },
		func(p *phases) *time.Duration { return &p.listening }, func(p *phases) *time.Duration { return &p.answered },
		func(p *phases) *time.Duration { return &p.serving }, func(p *phases) *time.Duration { return &p.address },
		func(p *phases) *time.Duration { return &p.endpoints }, func(p *phases) *time.Duration { return &p.firstByte },
	} {
		var d []time.Duration
		for i := range all {
			d = append(d, *of(&all[i]))
		}
		slices.Sort(d)
		*of(&m) = d[len(d)/2]
	}
	return m
}

// watcher notes when a revision's objects first changed, as anybody sees it who watches the API server.
type watcher struct {
	watches []watch.Interface
	notes   sync.WaitGroup

	mu sync.Mutex
	at sightings // guarded by mu
}

// sightings are when each was first seen.
type sightings struct{ patched, pod, address, endpoints time.Time }

func (in *installation) follow(r revision) *watcher {
	in.t.Helper()
	w := &watcher{}
	of := metav1.ListOptions{LabelSelector: "serving.knative.dev/revision=" + r.String()}
	deployments, err := in.Client.AppsV1().Deployments(in.Namespace).Watch(in.Context, of)
	w.each(in, deployments, err, func(e watch.Event) {
		if d, ok := e.Object.(*appsv1.Deployment); ok && *d.Spec.Replicas > 0 {
			w.note(&w.at.patched)
		}
	})
	pods, err := in.Client.CoreV1().Pods(in.Namespace).Watch(in.Context, of)
	w.each(in, pods, err, func(e watch.Event) {
		if e.Type == watch.Added {
			w.note(&w.at.pod)
		}
		if p, ok := e.Object.(*corev1.Pod); ok && p.Status.PodIP != "" {
			w.note(&w.at.address)
		}
	})
	of.LabelSelector += ",networking.internal.knative.dev/serviceType=Private"
	endpoints, err := in.Client.CoreV1().Endpoints(in.Namespace).Watch(in.Context, of)
	w.each(in, endpoints, err, func(e watch.Event) {
		if e, ok := e.Object.(*corev1.Endpoints); ok && len(e.Subsets) > 0 {
			w.note(&w.at.endpoints)
		}
	})
	return w
}

// each calls see with what a watch tells, until the watcher stops.
func (w *watcher) each(in *installation, of watch.Interface, err error, see func(watch.Event)) {
	in.t.Helper()
	if err != nil {
		in.t.Fatal(err)
	}
	w.watches = append(w.watches, of)
	w.notes.Go(func() {
		for e := range of.ResultChan() {
			see(e)
		}
	})
}

func (w *watcher) note(at *time.Time) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if at.IsZero() {
		*at = now
	}
}

func (w *watcher) seen() sightings {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *watcher) stop() {
	for _, of := range w.watches {
		of.Stop()
	}
	w.notes.Wait()
}
