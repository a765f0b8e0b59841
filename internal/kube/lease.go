package kube

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/member"
)

const (
	leaseLabel     = config.PrefixRouse + "lease"
	addrAnnotation = config.PrefixRouse + "address"
	memberPrefix   = "rouse-member-"
	bucketPrefix   = "rouse-bucket-"

	// Term is how long an instance is believed to be there after its last renewal. A bucket of a dead instance is decided
	// about again after the term, the check and the next decision: within 10 s.
	Term = 5 * time.Second
	// renewal is how often it renews, membershipCheck how often it looks who is there.
	renewal         = 1500 * time.Millisecond
	membershipCheck = 250 * time.Millisecond
	// renewalLimit is how slow a server may be: a renewal that comes through later than that is of no use.
	renewalLimit = Term - membershipCheck
	// longDead is how long an instance has not renewed its Lease when that is deleted: an instance that ends in good order
	// deletes its own. burial is how often such are looked for.
	longDead = time.Hour
	burial   = 10 * time.Minute
	// takers is how many buckets are taken at the same time: the share of a dead instance does not wait for one call after
	// the other.
	takers = 16
)

// MembershipConfig says who this instance is.
type MembershipConfig struct {
	Namespace string
	// Name tells the instance from the others, such as the name of its pod.
	Name string
	// Address is where the others reach it, as HOST:PORT.
	Address string
	// Buckets is how many buckets there are, for all instances.
	Buckets int
	Log     *slog.Logger
	// Own is called when a bucket was taken, with an epoch that is higher than that of any owner before; Disown when it
	// was given up. Both must return soon; they are called one at a time.
	Own    func(bucket int, epoch uint64)
	Disown func(bucket int)
	// Peers is called with the addresses of the other members when they change.
	Peers func([]string)
	// Resumed tells when this process last went on after it had stood still, zero for never.
	Resumed func() time.Time
}

// Membership divides buckets over the instances of control. Each instance renews one Lease of its own. A bucket has a
// Lease that is written only when it changes hands: its transitions are the epoch that tells an owner from one before,
// and its holder the proof; whose Lease was deleted has lost the bucket. While the API server is away nothing changes
// hands. An instance whose own lease has run out writes nothing about workloads (fence) until it has renewed it and looked
// who took what.
//
// Activators listen to the highest epoch that they have heard of, and never again to a lower one. So epochs must grow
// also when the Lease is deleted, or put back as it once was: nextEpoch.
type Membership struct {
	cfg     MembershipConfig
	client  *Client
	cluster *Cluster

	mu     sync.Mutex
	view   *member.View      // guarded by mu
	peers  map[string]string // guarded by mu; address by name
	owned  []bool            // guarded by mu
	epochs []uint64          // guarded by mu; the highest of each bucket that was seen, whatever became of its lease
	// confirmed is when the last renewal began since which nobody can have taken what is ours; guarded by mu.
	confirmed time.Time

	ours    map[int]uint64 // epochs of the buckets that this process took; of the run goroutine, like all below
	resumed time.Time      // the last standstill that was dealt with
	back    time.Time      // no member before that
	told    string
	version string // of our own lease
	failing bool
}

func newMembership(cfg MembershipConfig, client *Client, cluster *Cluster) *Membership {
	m := &Membership{
		cfg: cfg, client: client, cluster: cluster, view: member.NewView(cfg.Name, Term, time.Now()), peers: map[string]string{},
		owned: make([]bool, cfg.Buckets), epochs: make([]uint64, cfg.Buckets), ours: map[int]uint64{},
	}
	return m
}

// saw takes a change of a lease.
func (m *Membership) saw(old, now *lease) {
	l := now
	if l == nil {
		l = old
	}
	if b, ok := strings.CutPrefix(l.name, bucketPrefix); ok {
		if n, err := strconv.Atoi(b); err == nil && n >= 0 && n < m.cfg.Buckets {
			m.remember(n, l.transitions)
		}
		return
	}
	name, ok := strings.CutPrefix(l.name, memberPrefix)
	if !ok || name == m.cfg.Name {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now == nil {
		m.view.Gone(name)
		delete(m.peers, name)
		return
	}
	m.view.Saw(name, now.stamp, time.Now())
	m.peers[name] = now.addr
}

// Holds says whether this instance holds a bucket.
func (m *Membership) Holds(bucket int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned[bucket]
}

// First says whether this instance comes first among the members, for all that it knows now: it does what only one
// needs to do.
func (m *Membership) First() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.lapsed(time.Now()) && m.view.Members(time.Now())[0] == m.cfg.Name
}

// run renews and takes its share until ctx ends; then it gives up its lease, so that the others need not wait.
func (m *Membership) run(ctx context.Context) {
	var renewed time.Time
	buried := time.Now()
	for ; ctx.Err() == nil; pause(ctx, membershipCheck) {
		if m.standsDown(time.Now()) {
			continue
		}
		if time.Since(renewed) >= renewal {
			m.renew(ctx)
			renewed = time.Now()
		}
		m.divide(ctx, renewed.Add(renewal))
		if time.Since(buried) >= burial {
			m.bury(ctx)
			buried = time.Now()
		}
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = m.client.core.CoordinationV1().Leases(m.cfg.Namespace).Delete(end, memberPrefix+m.cfg.Name, metav1.DeleteOptions{}) // it runs out by itself
}

func (m *Membership) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewalLimit)
	defer cancel()
	began := time.Now()
	err := m.write(ctx)
	if err != nil && ctx.Err() == nil && m.version != "" {
		m.version = "" // somebody else touched it: look again
		err = m.write(ctx)
	}
	m.mu.Lock()
	lapsed := m.lapsed(began)
	m.mu.Unlock()
	if err == nil && lapsed {
		err = m.recheck(ctx)
	}
	if err == nil {
		m.mu.Lock()
		m.view.Renewed(time.Now())
		m.confirmed = began
		m.mu.Unlock()
	}
	if failing := err != nil; failing != m.failing {
		m.failing = failing
		if failing {
			m.cfg.Log.Warn("the API server takes no lease: everything keeps its last state", "error", err)
		} else {
			m.cfg.Log.Info("the API server takes our lease again")
		}
	}
}

func (m *Membership) write(ctx context.Context) error {
	leases := m.client.core.CoordinationV1().Leases(m.cfg.Namespace)
	object := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: memberPrefix + m.cfg.Name, Namespace: m.cfg.Namespace, ResourceVersion: m.version,
			Labels: map[string]string{leaseLabel: "member"}, Annotations: map[string]string{addrAnnotation: m.cfg.Address},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &m.cfg.Name, LeaseDurationSeconds: ptr(int32(Term / time.Second)), RenewTime: ptr(metav1.NowMicro())},
	}
	var err error
	if m.version == "" {
		old, getErr := leases.Get(ctx, object.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(getErr) {
			object, err = leases.Create(ctx, object, metav1.CreateOptions{})
			if err == nil {
				m.version = object.ResourceVersion
			}
			return err
		}
		if getErr != nil {
			return getErr
		}
		object.ResourceVersion = old.ResourceVersion
	}
	if object, err = leases.Update(ctx, object, metav1.UpdateOptions{}); err == nil {
		m.version = object.ResourceVersion
	}
	return err
}

// bury deletes the Leases of instances that are dead for long, as they were seen: who starts believes for a term that each is
// there. One that lives all the same makes its Lease anew. The first instance does it for all.
func (m *Membership) bury(ctx context.Context) {
	if !m.First() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewal)
	defer cancel()
	m.mu.Lock()
	dead := m.view.Dead(longDead, time.Now())
	m.mu.Unlock()
	for _, name := range dead {
		l := m.cluster.leases.get(key{m.cfg.Namespace, memberPrefix + name})
		if l == nil {
			continue
		}
		asSeen := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &l.version}}
		if err := m.client.core.CoordinationV1().Leases(m.cfg.Namespace).Delete(ctx, l.name, asSeen); unlessGone(err) != nil {
			m.cfg.Log.Debug("the lease of an instance that is dead for long stays", "lease", l.name, "error", err)
		}
	}
}

// divide takes the buckets that are our share and gives up those that are not. When the server is so slow that our own
// lease has to be renewed in between, the next call goes on.
func (m *Membership) divide(ctx context.Context, until time.Time) {
	m.mu.Lock()
	members := m.view.Members(time.Now())
	m.mu.Unlock()
	m.tellPeers(members)
	var missing []int
	for b := range m.cfg.Buckets {
		mine := member.Holder(b, members) == m.cfg.Name
		epoch, taken := m.ours[b]
		if taken {
			// Our own write is in the table, whatever the watch has brought: without a lease somebody has deleted it.
			if l := m.cluster.leases.get(key{m.cfg.Namespace, bucketName(b)}); l == nil || uint64(l.transitions) > epoch {
				m.giveUp(b) // another took it since, or may
				taken = false
			}
		}
		switch {
		case mine && !taken:
			missing = append(missing, b)
		case !mine && taken:
			m.giveUp(b)
		}
	}
	for some := range slices.Chunk(missing, takers) {
		if time.Now().Before(until) {
			m.take(ctx, some)
		}
	}
}

// tellPeers passes the addresses of the other members on when they change.
func (m *Membership) tellPeers(members []string) {
	var addrs []string
	m.mu.Lock()
	for _, name := range members {
		if a := m.peers[name]; name != m.cfg.Name && a != "" {
			addrs = append(addrs, a)
		}
	}
	m.mu.Unlock()
	if now := fmt.Sprint(addrs); now != m.told && m.cfg.Peers != nil {
		m.told = now
		m.cfg.Peers(addrs)
	}
}

func (m *Membership) set(bucket int, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned[bucket] = owned
}

func bucketName(b int) string { return bucketPrefix + strconv.Itoa(b) }

// remember notes an epoch that was seen.
func (m *Membership) remember(bucket int, transitions int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs[bucket] = max(m.epochs[bucket], uint64(max(transitions, 0)))
}

// epochStep is what the clock counts in: no bucket changes hands so often for long. The number of steps since 1970 fits
// into a lease's transitions for six centuries.
const epochStep = 10 * time.Second

// nextEpoch returns the transitions to take a bucket with: more than its lease says, more than this instance has ever
// seen, and at least the clock.
//
// Who has lost everything begins with the clock, which is beyond all epochs of before. An instance whose clock is ahead
// hands its lead on by the lease and, when that is lost, by the memory of the others. Who finds neither needs a clock that
// is behind the last owner's by less than the time since that one took the bucket. Versions before this one count from
// the lease alone, and so go on from here; what they have counted is below the clock.
func (m *Membership) nextEpoch(bucket int, lease int32, now time.Time) int32 {
	m.remember(bucket, lease)
	m.mu.Lock()
	defer m.mu.Unlock()
	return int32(min(max(m.epochs[bucket]+1, uint64(max(now.Unix(), 0))/uint64(epochStep/time.Second)), math.MaxInt32))
}

// take claims some buckets at the same time, and takes those whose lease says then that they are ours.
func (m *Membership) take(ctx context.Context, buckets []int) {
	claimed := make([]*coordinationv1.Lease, len(buckets))
	var claims sync.WaitGroup
	for i, b := range buckets {
		claims.Go(func() { claimed[i] = m.claim(ctx, b) })
	}
	claims.Wait()
	for i, b := range buckets {
		if l := claimed[i]; l != nil {
			m.cluster.leases.put(key{m.cfg.Namespace, bucketName(b)}, leaseOf(l))
			m.remember(b, *l.Spec.LeaseTransitions)
			m.ours[b] = uint64(*l.Spec.LeaseTransitions)
			m.set(b, true)
			m.cfg.Own(b, m.ours[b])
		}
	}
}

// claim writes our name into a bucket's lease. Of two that try at the same time one fails, which gets nil and looks again.
func (m *Membership) claim(ctx context.Context, b int) *coordinationv1.Lease {
	ctx, cancel := context.WithTimeout(ctx, renewal)
	defer cancel()
	leases := m.client.core.CoordinationV1().Leases(m.cfg.Namespace)
	object, err := leases.Get(ctx, bucketName(b), metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		object = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: bucketName(b), Namespace: m.cfg.Namespace, Labels: map[string]string{leaseLabel: "bucket"}}}
	} else if err != nil {
		return nil // the next check tries again
	}
	last := int32(0)
	if n := object.Spec.LeaseTransitions; n != nil {
		last = *n
	}
	next := m.nextEpoch(b, last, time.Now())
	object.Spec.HolderIdentity, object.Spec.LeaseTransitions, object.Spec.AcquireTime = &m.cfg.Name, &next, ptr(metav1.NowMicro())
	if missing {
		object, err = leases.Create(ctx, object, metav1.CreateOptions{})
	} else {
		object, err = leases.Update(ctx, object, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil
	}
	object.Spec.LeaseTransitions = &next
	return object
}
