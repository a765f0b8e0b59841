package kube

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errFenced is why an instance writes nothing about workloads although it holds their buckets: it may be that it only
// believes so.
var errFenced = fmt.Errorf("this instance has not renewed its lease for %v, so that another may decide by now", Term)

// fence says whether what this instance holds can be another's by now. It is asked before each write: an instance that
// was cut off, or stood still, finds out by itself, before it has heard of any successor. Its term ends before the others
// see it end, since it counts from the moment before the renewal was sent.
func (m *Membership) fence() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lapsed(time.Now()) {
		return errFenced
	}
	return nil
}

// lapsed is called with the lock held.
func (m *Membership) lapsed(now time.Time) bool { return now.Sub(m.confirmed) > Term }

// recheck gives up the buckets whose leases are not as we have written them: another took them while our lease had run
// out, or somebody deleted them, or put back an older state. Our own watch may not have said so yet.
func (m *Membership) recheck(ctx context.Context) error {
	list, err := m.client.core.CoordinationV1().Leases(m.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: leaseLabel + "=bucket"})
	if err != nil {
		return err
	}
	now := make(map[string]uint64, len(list.Items))
	for i := range list.Items {
		if n := list.Items[i].Spec.LeaseTransitions; n != nil {
			now[list.Items[i].Name] = uint64(*n)
		}
	}
	for b, epoch := range m.ours {
		if now[bucketName(b)] != epoch {
			m.giveUp(b)
		}
	}
	return nil
}

// standsDown says whether this instance is to be no member for now. One that stood still for longer than a term gives up
// everything, and is away for a term more: until its watches have caught up, and its windows hold load of after the
// standstill. The others go on as they have since its lease ran out.
func (m *Membership) standsDown(now time.Time) bool {
	resumed := m.cfg.Resumed()
	m.mu.Lock()
	lost := resumed.After(m.resumed) && resumed.Sub(m.confirmed) > Term && !m.confirmed.IsZero()
	if resumed.After(m.resumed) {
		m.resumed = resumed
	}
	m.mu.Unlock()
	if lost {
		m.back = resumed.Add(Term)
		m.cfg.Log.Warn("this process stood still for longer than its lease lasts: it decides nothing for a while", "until", m.back)
		for b := range m.ours {
			m.giveUp(b)
		}
	}
	return now.Before(m.back)
}

// giveUp is no question to anybody: the bucket's lease stays as it is until its next holder writes it.
func (m *Membership) giveUp(b int) {
	delete(m.ours, b)
	m.set(b, false)
	m.cfg.Disown(b)
}
