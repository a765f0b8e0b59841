package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/identity"
)

// leaseRig is an instance named "a" beside a server that another may write to. It hears of no watch.
type leaseRig struct {
	*Membership
	t      *testing.T
	server *fake.Clientset

	mu      sync.Mutex
	away    bool      // guarded by mu; the server answers nothing
	resumed time.Time // guarded by mu
	owned   map[int]uint64
	owns    int // how often a bucket was taken
}

func withMembership(t *testing.T, test func(*leaseRig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &leaseRig{t: t, server: fake.NewClientset(), owned: map[int]uint64{}}
		r.server.PrependReactor("*", "leases", func(k8stesting.Action) (bool, runtime.Object, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.away {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		client := &Client{core: r.server}
		r.Membership = newMembership(MembershipConfig{
			Namespace: "ns", Name: "a", Buckets: 4, Log: slog.New(slog.DiscardHandler),
			Own:    func(b int, epoch uint64) { r.owned[b] = epoch; r.owns++ },
			Disown: func(b int) { delete(r.owned, b) },
			Resumed: func() time.Time {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.resumed
			},
		}, client, NewCluster(ClusterConfig{Namespace: "ns"}, client))
		r.cluster.onLease = r.saw
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx) })
		test(r)
		cancel()
		running.Wait()
	})
}

// after lets time pass, and looks at what the instance may do and holds then.
func (r *leaseRig) after(d time.Duration, writes bool, holds int) {
	r.t.Helper()
	<-time.After(d)
	synctest.Wait()
	if err := r.fence(); (err == nil) != writes {
		r.t.Errorf("fence: %v, want that it may write: %t", err, writes)
	}
	if len(r.owned) != holds {
		r.t.Errorf("it holds %v, want %d buckets", r.owned, holds)
	}
	for b := range 4 {
		if _, owned := r.owned[b]; owned != r.Holds(b) {
			r.t.Errorf("bucket %d: told %t, Holds says %t", b, owned, r.Holds(b))
		}
	}
}

func (r *leaseRig) set(away bool, resumed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away, r.resumed = away, resumed
}

// taken makes another the holder of a bucket.
func (r *leaseRig) taken(b int) {
	r.t.Helper()
	api := r.server.Tracker()
	kind := coordinationv1.SchemeGroupVersion.WithResource("leases")
	o, err := api.Get(kind, "ns", bucketName(b))
	if err != nil {
		r.t.Fatal(err)
	}
	l := o.(*coordinationv1.Lease).DeepCopy()
	*l.Spec.LeaseTransitions++
	l.Spec.HolderIdentity = ptr("b")
	if err := api.Update(kind, l, "ns", metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// restored makes a bucket's lease what it was long ago; without transitions somebody deletes it. The watch tells so, if
// there is one.
func (r *leaseRig) restored(b int, transitions int32, watched bool) {
	r.t.Helper()
	api, kind, name := r.server.Tracker(), coordinationv1.SchemeGroupVersion.WithResource("leases"), bucketName(b)
	if err := api.Delete(kind, "ns", name); err != nil {
		r.t.Fatal(err)
	}
	var l *coordinationv1.Lease
	if transitions > 0 {
		l = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{leaseLabel: "bucket"}},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr("b"), LeaseTransitions: &transitions}}
		if err := api.Add(l); err != nil {
			r.t.Fatal(err)
		}
	}
	if !watched {
		return
	}
	if l == nil {
		r.cluster.leases.put(key{"ns", name}, nil)
	} else {
		r.cluster.leases.put(key{"ns", name}, leaseOf(l))
	}
}

// seen is what the watch brings of another's Lease.
func (r *leaseRig) seen(name, version string) {
	r.cluster.leases.put(key{"ns", memberPrefix + name}, &lease{name: memberPrefix + name, stamp: version, version: version})
}

// TestADeadInstanceStaysDead although its Lease is seen again, as with every relist.
func TestADeadInstanceStaysDead(t *testing.T) {
	withMembership(t, func(r *leaseRig) {
		relist := func() {
			for i := range 5 {
				r.seen(fmt.Sprint("dead-", i), "7")
			}
		}
		relist()
		r.after(11*Term, true, 4)
		relist()
		r.after(time.Second, true, 4)
		if r.owns != 4 {
			t.Errorf("buckets were taken %d times, want each once", r.owns)
		}
	})
}

// TestLeasesOfTheDeadAreDeleted by the first instance alone, as they were seen.
func TestLeasesOfTheDeadAreDeleted(t *testing.T) {
	for name, tc := range map[string]struct {
		living string
		want   []string
	}{
		"we come first": {"b", []string{"rouse-member-dead-1 7", "rouse-member-dead-2 7"}},
		"another does":  {"A", nil},
	} {
		t.Run(name, func(t *testing.T) {
			withMembership(t, func(r *leaseRig) {
				r.after(time.Second, true, 4)
				for name, age := range map[string]time.Duration{"dead-1": longDead + time.Second, "dead-2": 2 * longDead, "dead-3": longDead - time.Second, tc.living: 0} {
					r.Membership.mu.Lock()
					r.view.Saw(name, "7", time.Now().Add(-age))
					r.Membership.mu.Unlock()
					r.seen(name, "7")
				}
				r.bury(r.t.Context())
				var deleted []string
				for _, a := range r.server.Actions() {
					if d, ok := a.(k8stesting.DeleteActionImpl); ok {
						deleted = append(deleted, d.Name+" "+*d.DeleteOptions.Preconditions.ResourceVersion)
					}
				}
				if slices.Sort(deleted); !slices.Equal(deleted, tc.want) {
					t.Errorf("deleted %v, want %v", deleted, tc.want)
				}
			})
		})
	}
}

// TestLostLease: whose lease was deleted takes the bucket again, with a higher epoch; while it is cut off it finds out
// before it writes.
func TestLostLease(t *testing.T) {
	for name, watched := range map[string]bool{"the watch says so": true, "it looks for itself": false} {
		t.Run(name, func(t *testing.T) {
			withMembership(t, func(r *leaseRig) {
				r.after(time.Second, true, 4)
				first := maps.Clone(r.owned)
				if !watched {
					r.set(true, time.Time{})
					r.after(Term+2*membershipCheck, false, 4)
				}
				r.restored(2, 0, watched)
				r.restored(3, 1, watched)
				r.set(false, time.Time{})
				r.after(renewal+membershipCheck, true, 4)
				if r.owned[2] <= first[2] || !watched && r.owned[3] <= first[3] {
					t.Errorf("epochs %v, want more than %v of those whose leases were lost", r.owned, first)
				}
				if r.owned[0] != first[0] || r.owned[1] != first[1] {
					t.Errorf("epochs %v, want those of buckets 0 and 1 as they were in %v", r.owned, first)
				}
			})
		})
	}
}

// TestEpochsGrow: whoever takes a bucket takes it with a higher epoch than all before, whatever becomes of its lease and of
// the instances, as long as not all is lost within the time that the clocks differ by.
func TestEpochsGrow(t *testing.T) {
	const skew = time.Hour
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		fresh := func() *Membership { return &Membership{cfg: MembershipConfig{Buckets: 1}, epochs: make([]uint64, 1)} }
		instances := []*Membership{fresh(), fresh(), fresh()}
		var ahead [3]time.Duration
		for i := range ahead {
			ahead[i] = time.Duration(rapid.Int64Range(0, int64(skew)).Draw(t, "ahead"))
		}
		written, highest := int32(rapid.IntRange(0, 1000).Draw(t, "of before")), int32(1000)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			i := rapid.IntRange(0, 2).Draw(t, "instance")
			switch rapid.SampledFrom([]string{"take", "take", "of the version before", "delete", "restore", "restart", "all is lost"}).Draw(t, "op") {
			case "take":
				written = instances[i].nextEpoch(0, written, now.Add(ahead[i]))
				if written <= highest {
					t.Fatalf("epoch %d after %d", written, highest)
				}
				highest = written
			case "of the version before":
				if written == highest { // it knows nothing but the lease
					written++
					highest = written
				}
			case "delete":
				written = 0
			case "restore":
				written = rapid.Int32Range(0, highest).Draw(t, "restored")
			case "restart":
				if written == highest { // which it finds
					instances[i] = fresh()
				}
			case "all is lost":
				written, instances = 0, []*Membership{fresh(), fresh(), fresh()}
				now = now.Add(skew + 41*epochStep)
			}
			for _, m := range instances {
				m.saw(nil, &lease{name: bucketName(0), transitions: written})
			}
		}
	})
}

// TestCutOff: an instance that can't renew keeps its share and writes nothing; when it can again, it finds out what
// another has taken before it writes.
func TestCutOff(t *testing.T) {
	withMembership(t, func(r *leaseRig) {
		r.after(time.Second, true, 4)
		first := r.owned[2]
		r.set(true, time.Time{})
		r.after(3*time.Second, true, 4)
		r.after(3*time.Second, false, 4)
		r.taken(2)
		r.after(time.Minute, false, 4)
		r.set(false, time.Time{})
		r.after(renewal+membershipCheck, true, 4)
		if now := r.owned[2]; now < first+2 {
			t.Errorf("epoch %d of the bucket that another had meanwhile, want %d at least", now, first+2)
		}
		if r.owns != 5 {
			t.Errorf("%d buckets were taken, want the four and the one again", r.owns)
		}
	})
}

// TestStandstill: an instance that stood still for longer than its lease lasts is out for a term; for a shorter time it
// has lost nothing.
func TestStandstill(t *testing.T) {
	withMembership(t, func(r *leaseRig) {
		r.after(2*time.Second, true, 4)
		first := maps.Clone(r.owned)
		r.set(false, time.Now())
		r.after(2*time.Second, true, 4)
		if r.owns != 4 {
			t.Errorf("%d buckets were taken, want only the four of the start", r.owns)
		}
		r.set(true, time.Time{}) // as good as standing still: nothing is renewed
		r.after(15*time.Second, false, 4)
		r.set(false, time.Now())
		r.after(membershipCheck, false, 0)
		r.after(Term-2*membershipCheck, false, 0)
		r.after(3*membershipCheck, true, 4)
		for b, epoch := range r.owned {
			if epoch <= first[b] {
				t.Errorf("epoch %d of bucket %d, want more than %d of the first time", epoch, b, first[b])
			}
		}
	})
}

// TestFencedInstanceWritesNothing: neither a scale nor endpoints, and the reason is said.
func TestFencedInstanceWritesNothing(t *testing.T) {
	r := newRig(t)
	r.service(helloService(nil))
	r.deployment(0)
	rev := r.hello().rev
	server := fake.NewClientset()
	client := &Client{core: server}
	fence := func() error { return errFenced }
	s := &Scaler{client: client, cluster: r.Cluster, fence: fence, reporter: newReporter(client, slog.New(slog.DiscardHandler))}
	if err := s.Scale(t.Context(), rev, 1, nil); !errors.Is(err, errFenced) {
		t.Errorf("Scale: %v, want %v", err, errFenced)
	}
	p := r.publisher
	p.client, p.fence, p.owns = client, fence, func(identity.Revision) bool { return true }
	r.activators = []Activator{{Addr: netip.MustParseAddr("10.0.0.1"), Connected: true, Port: func(uint16) (bool, string) { return true, "" }}}
	if err := p.one(t.Context(), key{"default", "hello"}); !errors.Is(err, errFenced) {
		t.Errorf("publishing: %v, want %v", err, errFenced)
	}
	for _, a := range server.Actions() {
		t.Errorf("the server was asked to %s %s", a.GetVerb(), a.GetResource().Resource)
	}
}
