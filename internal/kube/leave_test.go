package kube

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// TestARestartGoesOnLingering: an instance that did not see a workload leave finds it in the book of ports.
func TestARestartGoesOnLingering(t *testing.T) {
	selects := func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "hello"} }
	optOut := func(r *rig) {
		o := *r.deployments.get(key{"default", "hello"})
		o.Annotations = map[string]string{"rouse.dev/container-concurrency": "7"}
		r.deployments.put(key{"default", "hello"}, &o)
	}
	released := func(ago time.Duration) string { return " released " + time.Now().Add(-ago).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		name      string
		lease     string
		service   func(*corev1.Service)
		change    func(*rig)
		lingers   bool
		listening bool // activators keep its ports open
		limit     int
	}{
		{"its Service was released", "default/hello/http", selects, nil, true, true, 0},
		{"its Service was released a while ago", "default/hello/http" + released(time.Minute), selects, nil, true, false, 0},
		{"its port may be another's by now", "default/hello/http" + released(portalloc.Quarantine), selects, nil, false, false, 0},
		{"it opted out", "default/hello/http", nil, optOut, true, true, 7},
		{"it opted out a while ago", "default/hello/http" + released(time.Minute), nil, optOut, true, false, 7},
		{"its Service has another name", "default/front/http for hello", func(s *corev1.Service) { s.Name = "front"; selects(s) }, nil, true, true, 0},
		{"the Service was another workload's", "default/hello/http for other", selects, nil, false, false, 0},
		{"it is scaled", "default/hello/http", nil, nil, false, false, 0},
		{"its Service is gone", "default/hello/http", func(s *corev1.Service) { s.Name = "other" }, nil, false, false, 0},
		{"it is gone itself", "default/hello/http", selects, func(r *rig) { r.deployments.put(key{"default", "hello"}, nil) }, false, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.mirror.ports = newPorts(nil, "rouse-system", "rouse-ports", portalloc.DefaultRange, r.mirror.log)
			r.mirror.ports.read(&configMap{data: map[string]string{"20001": tc.lease}, version: "2"})
			r.deployment(1)
			r.service(helloService(tc.service))
			r.pod(podObject("a", nil))
			if tc.change != nil {
				tc.change(r)
			}
			r.hello()
			r.mirror.resume(time.Now())
			if got := len(r.lingers) == 1; got != tc.lingers {
				t.Fatalf("lingers %+v, want that: %t", r.lingers, tc.lingers)
			}
			now := r.hello()
			if !tc.lingers {
				return
			}
			if l := r.lingers[0]; !slices.Equal(l.Ports, []uint16{20001}) || l.Config.ContainerConcurrency.V != tc.limit {
				t.Errorf("lingers at %v with limit %d, want 20001 and %d", l.Ports, l.Config.ContainerConcurrency.V, tc.limit)
			}
			if muted := len(r.muted) > 0; muted == tc.listening {
				t.Errorf("told to close its ports: %t, want %t", muted, !tc.listening)
			}
			if n := len(r.mirror.book.Snapshot(now.rev).Endpoints); n != 1 || len(r.puts)+len(r.left)+len(r.removed) > 0 {
				t.Errorf("activators know %d pods, want one; put %v, left %v, removed %v", n, r.puts, r.left, r.removed)
			}
			now.left = time.Now().Add(-lingerOn)
			r.hello()
			if len(r.removed) != 1 {
				t.Errorf("in the end removed %d times, want once", len(r.removed))
			}
		})
	}
}

// TestAServiceThatChangesHands: a workload whose Service is for another gives its ports up when that one has them, whoever is
// looked at first, and leaves the slices alone.
func TestAServiceThatChangesHands(t *testing.T) {
	for _, tc := range []struct {
		name             string
		first            string // who is looked at first
		there, annotated bool   // the other workload
		muted, others    bool
	}{
		{"the old one first", "hello", true, true, true, true},
		{"the new one first", "next", true, true, true, true},
		{"the new one is not scaled", "hello", true, false, false, true},
		{"there is no new one", "hello", false, false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(0)
			r.service(helloService(nil))
			r.hello()
			if tc.there {
				o := *r.deployments.get(key{"default", "hello"})
				o.Name, o.UID = "next", "u2"
				if !tc.annotated {
					o.Annotations = nil
				}
				r.deployments.put(key{"default", "next"}, &o)
			}
			r.mirror.sync(key{"default", "next"})
			r.service(helloService(func(s *corev1.Service) { s.Annotations = map[string]string{workload.ServiceFor: "next"} }))
			order := []string{"hello", "next"}
			if tc.first == "next" {
				slices.Reverse(order)
			}
			for _, name := range order {
				r.mirror.sync(key{"default", name})
			}
			old := r.mirror.get(key{"default", "hello"})
			if r.mirror.queue.waiting[key{"default", "hello"}] {
				r.hello()
			}
			if got := slices.Contains(r.muted, old.rev); got != tc.muted || len(r.removed) > 0 {
				t.Errorf("told to close its ports: %t, removed %v; want %t, and what is in flight finishes", got, r.removed, tc.muted)
			}
			if got := r.mirror.bequeathed(old); got != tc.others {
				t.Errorf("leaves the slices to another: %t, want %t", got, tc.others)
			}
			if !tc.annotated {
				return
			}
			next := r.mirror.get(key{"default", "next"})
			if r.mirror.bequeathed(next) || !slices.Equal(next.ports, []uint16{20001}) {
				t.Errorf("the new one has the ports %v, want 20001, and the slices", next.ports)
			}
			r.service(helloService(nil)) // and back
			r.hello()
			r.mirror.sync(key{"default", "next"})
			if back := r.hello(); back.leaving || back.mute || !slices.Contains(r.muted, next.rev) {
				t.Errorf("back again: %+v, muted %v; want the old one in its place", back, r.muted)
			}
		})
	}
}
