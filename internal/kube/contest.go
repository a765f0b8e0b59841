package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/workload"
)

const (
	// contestedBy is how often within contestedIn somebody else must have set a scale that control set back: once may be a try
	// by hand, that often is a program that will go on.
	contestedBy = 3
	contestedIn = time.Minute
	// askWho bounds the question who that is: a scale waits for it, once.
	askWho = time.Second
)

// contests notices whose scale somebody else sets again and again, as a GitOps tool does that has `replicas` in its manifest.
type contests struct {
	mu    sync.Mutex
	of    map[key]*contest // guarded by mu; those of whose scale something was heard within contestedIn
	swept time.Time        // guarded by mu
}

// contest is what control did with a workload's scale.
type contest struct {
	uid   string
	set   int // last, by us
	heard time.Time
	back  []time.Time // when others' settings were set back, of late
	said  bool
}

// undoes notes that control is about to set a scale, and says whether that is the first time that somebody must be told that
// others set it, too.
func (c *contests) undoes(o *opted, desired int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.of[key{o.Namespace, o.Name}]
	if x == nil || x.uid != o.UID || x.set == o.Replicas || desired == o.Replicas {
		return false
	}
	x.heard = now
	x.back = append(x.back, now)
	x.trim(now)
	if len(x.back) < contestedBy || x.said {
		return false
	}
	x.said = true
	return true
}

// trim forgets what was long ago. More than contestedBy need not be known.
func (x *contest) trim(now time.Time) {
	x.back = slices.DeleteFunc(x.back, func(at time.Time) bool { return now.Sub(at) > contestedIn })
	x.back = x.back[max(0, len(x.back)-contestedBy):]
}

// wrote notes what control has set a scale to, and says whether a contest that was said is over.
func (c *contests) wrote(o *opted, replicas int, now time.Time) (over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	k := key{o.Namespace, o.Name}
	x := c.of[k]
	if x == nil || x.uid != o.UID {
		if c.of == nil {
			c.of = make(map[key]*contest)
		}
		x = &contest{uid: o.UID}
		c.of[k] = x
	}
	x.set, x.heard = replicas, now
	x.trim(now)
	over = x.said && len(x.back) == 0
	x.said = x.said && !over
	return over
}

// sweep forgets workloads whose scale has not changed for a while; the caller holds c.mu. One whose contest was said is
// remembered for longer, so that its end is noticed.
func (c *contests) sweep(now time.Time) {
	if now.Sub(c.swept) < contestedIn {
		return
	}
	c.swept = now
	for k, x := range c.of {
		if age := now.Sub(x.heard); age > contestedIn && !x.said || age > time.Hour {
			delete(c.of, k)
		}
	}
}

// contested says that somebody else sets a workload's scale.
func (s *Scaler) contested(ctx context.Context, o *opted) {
	by := s.setter(ctx, o)
	if by != "" {
		by = " by " + by
	}
	s.reporter.say(subjectOf(o), fromContest, complaint{string(workload.ScaleContested), fmt.Sprintf(
		"somebody else sets its replicas: %d times within a minute, the last time to %d%s, and control set them back each time; leave `replicas` out of its manifest, "+
			"and in Argo CD list /spec/replicas under ignoreDifferences, with the sync option RespectIgnoreDifferences=true", contestedBy, o.Replicas, by)})
}

// setter returns the field manager that set a workload's replicas, as the server remembers it, empty when it does not say. What
// we keep of workloads has no field managers, which would be most of it.
func (s *Scaler) setter(ctx context.Context, o *opted) string {
	ctx, cancel := context.WithTimeout(ctx, askWho)
	defer cancel()
	one := metav1.ListOptions{FieldSelector: "metadata.name=" + o.Name} // control may list them, and so need not be allowed to get one
	var fields []metav1.ManagedFieldsEntry
	if o.Kind == workload.StatefulSet {
		list, err := s.client.core.AppsV1().StatefulSets(o.Namespace).List(ctx, one)
		if err == nil && len(list.Items) == 1 {
			fields = list.Items[0].ManagedFields
		}
	} else {
		list, err := s.client.core.AppsV1().Deployments(o.Namespace).List(ctx, one)
		if err == nil && len(list.Items) == 1 {
			fields = list.Items[0].ManagedFields
		}
	}
	return managerOfReplicas(fields)
}

// managerOfReplicas returns who set spec.replicas last.
func managerOfReplicas(fields []metav1.ManagedFieldsEntry) (name string) {
	var last time.Time
	for i := range fields {
		f := &fields[i]
		var owned struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if f.FieldsV1 == nil || json.Unmarshal(f.FieldsV1.GetRawBytes(), &owned) != nil || owned.Spec.Replicas == nil {
			continue
		}
		if at := f.Time; name == "" || at != nil && at.After(last) {
			name = f.Manager
			if at != nil {
				last = at.Time
			}
		}
	}
	return name
}
