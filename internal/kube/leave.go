package kube

import (
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// How long activators go on for a workload that is not scaled any more: with its ports until routers have heard that its
// Service leads elsewhere, and with its requests until the ports would be given to another.
const (
	listenOn = 15 * time.Second
	lingerOn = portalloc.Quarantine
)

// Handover is how long after a release clients come to activators, at most: until those have ended the connections that
// they had, and a moment for the responses.
const Handover = listenOn + 5*time.Second

// leave takes a workload that can't be scaled any more out of control, if it was in it. Its pods stay behind its Service as
// long as nobody else puts them there, and activators serve what still comes to them.
func (m *Mirror) leave(k key, before *tracked, o *opted) {
	t := m.leaver(k, before, o)
	m.mu.Lock()
	if t == nil {
		delete(m.tracked, k)
	} else {
		m.tracked[k] = t
		if t.bereft() && !t.mute {
			m.former[t.serviceKey()] = k
		}
	}
	m.mu.Unlock()
	switch {
	case t == nil && before.known():
		m.forget(before)
	case t != nil && !t.left.IsZero():
		m.linger(k, t)
	}
	m.touched(k)
}

// leaver returns what is left of a workload, nil when that is nothing.
func (m *Mirror) leaver(k key, before *tracked, o *opted) *tracked {
	t := &tracked{object: o, rev: o.Revision(), leaving: true}
	if before != nil {
		*t = *before
		t.object, t.leaving = o, true
		if !before.leaving {
			t.left = time.Now()
			m.scrape(t.rev, nil)
			m.sink.Leave(t.rev)
		}
		t.service = m.cluster.services.get(before.serviceKey())
		if t.service == nil && !t.left.IsZero() {
			t.service = before.service // it may be made anew, and what is parked waits for it
		}
	} else {
		t.service = m.cluster.published(k)
	}
	if t.service == nil || len(t.service.Ports) == 0 || t.left.IsZero() && (t.service.selfFilled() || m.bequeathed(t)) {
		return nil
	}
	t.object = m.fronted(before, o)
	t.primary = workload.Primary(t.service.Ports, t.object.Fronts)
	return t
}

// bequeathed says whether the Service of a workload that lingers is another's, which publishes what is behind it. While
// that one is not there its pods stay.
func (m *Mirror) bequeathed(t *tracked) bool {
	return t.bereft() && m.cluster.workload(t.heir()) != nil
}

// selfFilled says whether Kubernetes fills the Service's endpoints.
func (s *service) selfFilled() bool { return len(s.Selector) > 0 && !s.Adopted() }

// linger keeps activators going until nobody can come to them any more.
func (m *Mirror) linger(k key, t *tracked) {
	age := time.Since(t.left)
	if age < lingerOn {
		if len(t.ports) == len(t.service.Ports) {
			m.publish(t)
			m.scrape(t.rev, nil)
		}
		if (age >= listenOn || m.succeeded(t)) && !t.mute {
			t.mute = true
			m.sink.Unlisten(t.rev)
		}
		next := listenOn - age
		if t.mute {
			next = lingerOn - age
		}
		m.queue.AddAfter(k, next)
		return
	}
	t.left = time.Time{}
	m.forget(t)
	m.queue.Add(k)
}

// succeeded says whether another workload has the ports of one that lingers, since its Service is for that one now.
func (m *Mirror) succeeded(t *tracked) bool {
	if !t.bereft() {
		return false
	}
	next := m.get(t.heir())
	return next != nil && !next.leaving && next.serviceKey() == t.serviceKey()
}

// resume goes on with the workloads that an instance before this one had let go lately: activators would drop what this
// one does not name. When that was is in the book of ports, to the half-minute; of a port that was not released yet it is
// now. It must come after the first look at every workload, and before a bucket is taken.
func (m *Mirror) resume(now time.Time) {
	for _, p := range m.ports.past(now) {
		o, s := m.cluster.workload(p.workload), m.cluster.services.get(p.service)
		if t := m.get(p.workload); o == nil || s == nil || len(s.Ports) == 0 || t != nil && !t.leaving {
			continue
		}
		t := m.remains(o, s, p.left)
		if m.succeeded(t) {
			t.sent.Ports, t.sent.Extra = nil, nil
		}
		m.mu.Lock()
		m.tracked[p.workload] = t
		m.mu.Unlock()
		m.sink.Linger(t.sent)
		m.linger(p.workload, t)
	}
}

// remains returns a workload as it was when it left, as far as that can still be known.
func (m *Mirror) remains(o *opted, s *service, left time.Time) *tracked {
	o = m.fronted(nil, o)
	t := &tracked{object: o, service: s, rev: o.Revision(), primary: workload.Primary(s.Ports, o.Fronts), ports: make([]uint16, len(s.Ports)), leaving: true, left: left}
	t.sent = Routed{Config: workload.Remains(&o.Object, &s.Service, m.settings()), Replicas: o.Replicas}
	for i := range s.Ports {
		if port := m.ports.lease(t.holder(i), left); port != 0 {
			t.listen(i, port)
		}
	}
	return t
}

// forget makes activators forget a workload.
func (m *Mirror) forget(t *tracked) {
	m.sink.Remove(t.rev)
	m.book.Forget(t.rev)
	for _, x := range t.sent.Extra {
		m.book.Forget(x.ID)
	}
}

// forgetPorts drops the pods of further ports that a workload had and has no more; activators were told to forget them.
func (m *Mirror) forgetPorts(last, now *tracked) {
	if last == nil {
		return
	}
	for _, x := range last.sent.Extra {
		if !slices.ContainsFunc(now.sent.Extra, func(y Extra) bool { return x.ID == y.ID }) {
			m.book.Forget(x.ID)
		}
	}
}

// sayLeft tells who opted out why control has not let go completely.
func (m *Mirror) sayLeft(k key, o *opted) {
	t := m.get(k)
	if t == nil || t.service.selfFilled() || m.serviceless(t) || !m.owns(o.Revision()) {
		return
	}
	m.reporter.say(subjectOf(o), fromLook, complaint{string(workload.LeftControl), "is not scaled any more, and Service " + t.service.Name +
		" has no selector: control goes on publishing its pods until it has one; run `rouse release` if it was adopted"})
}
