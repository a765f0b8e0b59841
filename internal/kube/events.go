package kube

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func typesUID(s string) types.UID { return types.UID(s) }

// subject is the object that an Event is about.
type subject struct {
	apiVersion, kind string
	key
	uid string
}

// eventBacklog bounds the Events that wait for the API server; more are only logged.
const eventBacklog = 1024

// source is who says something about an object: each keeps to its own.
type source string

const (
	fromLook      source = "look" // at the object itself
	fromScale     source = "scale"
	fromContest   source = "contest" // for the scale
	fromEndpoints source = "endpoints"
	fromPorts     source = "ports" // of activators
)

// reporter says what is wrong: one log line and one Event for each problem of an object, however often it is seen, and
// again when it has gone and come back. The name of an Event follows from what it says, so that a restart, or another
// instance, adds none.
type reporter struct {
	client *Client
	log    *slog.Logger

	mu   sync.Mutex
	said map[key]map[subject]map[source][]complaint // guarded by mu; nothing in there is empty
	out  chan *corev1.Event
}

func newReporter(client *Client, log *slog.Logger) *reporter {
	return &reporter{client: client, log: log, said: make(map[key]map[subject]map[source][]complaint), out: make(chan *corev1.Event, eventBacklog)}
}

// complaint is one thing to say.
type complaint struct{ reason, text string }

// say makes these what one source complains of about a subject: what it has said already is not repeated, what is no
// longer among them is forgotten.
func (r *reporter) say(s subject, from source, complaints ...complaint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.said[s.key][s][from]
	for _, c := range complaints {
		if slices.Contains(before, c) {
			continue
		}
		r.log.Warn(c.text, "reason", c.reason, "kind", s.kind, "namespace", s.namespace, "name", s.name)
		select {
		case r.out <- eventOf(s, c, time.Now()):
		default:
		}
	}
	r.keep(s, from, complaints)
}

// keep makes this what a source said about a subject; the caller holds the lock.
func (r *reporter) keep(s subject, from source, complaints []complaint) {
	if len(complaints) == 0 {
		delete(r.said[s.key][s], from)
		if len(r.said[s.key][s]) == 0 {
			r.forget(s)
		}
		return
	}
	if r.said[s.key] == nil {
		r.said[s.key] = make(map[subject]map[source][]complaint, 1)
	}
	if r.said[s.key][s] == nil {
		r.said[s.key][s] = make(map[source][]complaint, 1)
	}
	r.said[s.key][s][from] = complaints
}

// forget forgets what was said about a subject; the caller holds the lock.
func (r *reporter) forget(s subject) {
	delete(r.said[s.key], s)
	if len(r.said[s.key]) == 0 {
		delete(r.said, s.key)
	}
}

// only forgets what was said about workloads of a name, but for those with these UIDs: others are gone.
func (r *reporter) only(k key, uids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.said[k] {
		if s.apiVersion == workloadVersion && !slices.Contains(uids, s.uid) {
			r.forget(s)
		}
	}
}

// gone forgets what was said about a subject that is no more.
func (r *reporter) gone(s subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(s)
}

func eventOf(s subject, c complaint, now time.Time) *corev1.Event {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", s.uid, c.reason, c.text)
	namespace := s.namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	const most = 1024 // what the API takes
	if len(c.text) > most {
		c.text = c.text[:most-3] + "..."
	}
	at := metav1.NewTime(now)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%016x", s.name, h.Sum64())},
		InvolvedObject: corev1.ObjectReference{APIVersion: s.apiVersion, Kind: s.kind, Namespace: s.namespace, Name: s.name, UID: typesUID(s.uid)},
		Type:           corev1.EventTypeWarning, Reason: c.reason, Message: c.text, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source:              corev1.EventSource{Component: "rouse-control"},
		ReportingController: managedBy,
	}
}

// run writes Events until ctx ends. One that can't be written is dropped: its line is in the log.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.out:
			c, cancel := context.WithTimeout(ctx, callTimeout)
			_, err := r.client.core.CoreV1().Events(e.Namespace).Create(c, e, metav1.CreateOptions{})
			cancel()
			if err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
				r.log.Debug("an Event was not written", "about", e.InvolvedObject.Name, "error", err)
			}
		}
	}
}
