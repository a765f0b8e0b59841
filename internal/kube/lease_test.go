package kube

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

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
		if now := r.owned[2]; now != first+2 {
			t.Errorf("epoch %d of the bucket that another had meanwhile, want %d", now, first+2)
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
			if epoch != 2 {
				t.Errorf("epoch %d of bucket %d, want the second", epoch, b)
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
	r.activators = []Activator{{Addr: netip.MustParseAddr("10.0.0.1"), Connected: true, Open: func(uint16) bool { return true }}}
	if err := p.one(t.Context(), key{"default", "hello"}); !errors.Is(err, errFenced) {
		t.Errorf("publishing: %v, want %v", err, errFenced)
	}
	for _, a := range server.Actions() {
		t.Errorf("the server was asked to %s %s", a.GetVerb(), a.GetResource().Resource)
	}
}
