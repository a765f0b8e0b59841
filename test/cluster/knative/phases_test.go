package knative

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// phases are when each step of a cold start was over, counted from the moment in which the request was sent.
type phases struct {
	decided, patched, pod, started, listening, answered time.Duration
	accepted                                            time.Duration // the API server has answered whoever patched; 0: not known
	serving                                             time.Duration // the queue-proxy
	address                                             time.Duration // in the pod's status: from there on an activator can ask
	firstByte                                           time.Duration // counted from listening: what the two hops add
}

func (p phases) String() string {
	return fmt.Sprintf("decided %v, patch accepted %v, seen %v, pod object %v, process started %v, listening %v; queue-proxy serves %v, address %v; answered %v (listening to first byte %v)",
		ms(p.decided), ms(p.accepted), ms(p.patched), ms(p.pod), ms(p.started), ms(p.listening), ms(p.serving), ms(p.address), ms(p.answered), ms(p.firstByte))
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// median takes each phase by itself.
func median(all []phases) (m phases) {
	for _, of := range []func(*phases) *time.Duration{
		func(p *phases) *time.Duration { return &p.decided }, func(p *phases) *time.Duration { return &p.patched },
		func(p *phases) *time.Duration { return &p.pod }, func(p *phases) *time.Duration { return &p.started },
		func(p *phases) *time.Duration { return &p.listening }, func(p *phases) *time.Duration { return &p.answered },
		func(p *phases) *time.Duration { return &p.serving }, func(p *phases) *time.Duration { return &p.address },
		func(p *phases) *time.Duration { return &p.firstByte }, func(p *phases) *time.Duration { return &p.accepted },
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
type sightings struct{ patched, pod, address time.Time }

func (in *installation) follow(c contestant, r revision) *watcher {
	in.t.Helper()
	w := &watcher{}
	of := metav1.ListOptions{LabelSelector: c.selector(r)}
	deployments, err := in.Client.AppsV1().Deployments(in.Namespace).Watch(in.Context, metav1.ListOptions{FieldSelector: "metadata.name=" + c.deployment(r)})
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
