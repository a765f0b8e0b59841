package knative

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// journal is a sink that writes down what it hears.
type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	more  chan struct{}
}

func newJournal() *journal { return &journal{more: make(chan struct{}, 100)} }

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
	j.mu.Unlock()
	j.more <- struct{}{}
}

func (j *journal) Put(r Revision) {
	j.add("put %s %s limit %d", r.ID, r.ID.UID, r.ContainerConcurrency)
}
func (j *journal) Remove(id identity.Revision) { j.add("remove %s %s", id, id.UID) }
func (j *journal) Update(u endpoint.Update) {
	var pods []string
	for _, e := range u.Snapshot.Endpoints {
		pods = append(pods, e.Pod.UID+" "+e.State.String())
	}
	j.add("pods %d: %s", u.Snapshot.Version, strings.Join(pods, ", "))
}
func (j *journal) Grant(_ identity.Revision, grants map[string]int) { j.add("grants %v", grants) }

// wait returns the lines once there are n of them.
func (j *journal) wait(t *testing.T, n int) []string {
	t.Helper()
	for {
		j.mu.Lock()
		lines := append([]string(nil), j.lines...)
		j.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-j.more:
		case <-t.Context().Done():
			t.Fatalf("heard %q, want %d lines", lines, n)
		}
	}
}

func endpoints(kind, name string, ready ...corev1.EndpointAddress) *corev1.Endpoints {
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{labelServiceType: kind, labelRevision: "cart-00002"}},
		Subsets:    []corev1.EndpointSubset{{Addresses: ready, Ports: []corev1.EndpointPort{{Name: "http", Port: 8012}}}},
	}
}

func TestWatcherTellsInOrder(t *testing.T) {
	self := netip.MustParseAddr("10.1.0.1")
	public := endpoints(typePublic, "cart-00002", address("10.1.0.1", "x"), address("10.1.0.2", "y"))
	typed := fake.NewSimpleClientset(public, endpoints(typePrivate, "cart-00002-private"))
	gvr := schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "revisions"}
	revisions := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{gvr: "RevisionList"},
		object(map[string]any{"containerConcurrency": int64(5)}))
	j := newJournal()
	w, err := NewWatcher(&Cluster{typed: typed, dynamic: revisions}, self, j, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	synced, done := make(chan struct{}), make(chan error)
	go func() { done <- w.Run(ctx, func() { close(synced) }) }()
	<-synced
	j.wait(t, 2)

	private := endpoints(typePrivate, "cart-00002-private", address("10.0.0.1", "a"), address("10.0.0.2", "b"))
	update := func(e *corev1.Endpoints) {
		t.Helper()
		if _, err := typed.CoreV1().Endpoints("shop").Update(ctx, e, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update(private)
	j.wait(t, 4)
	update(endpoints(typePrivate, "cart-00002-private", address("10.0.0.2", "b")))
	j.wait(t, 6)
	next := object(map[string]any{"containerConcurrency": int64(5)})
	next.SetUID("u3")
	if err := revisions.Resource(gvr).Namespace("shop").Delete(ctx, next.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	j.wait(t, 7)
	if _, err := revisions.Resource(gvr).Namespace("shop").Create(ctx, next, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got := j.wait(t, 10)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	want := []string{
		"put shop/cart-00002 u2 limit 5", "grants map[]",
		"grants map[a:5]", "pods 1: a ready, b ready",
		"grants map[b:3]", "pods 2: b ready",
		"remove shop/cart-00002 u2",
		"put shop/cart-00002 u3 limit 5", "grants map[b:3]", "pods 1: b ready",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the sink heard (-want +got):\n%s", d)
	}
}

// counter is a sink that counts revisions, and takes the first one when it is let.
type counter struct {
	journal
	let  chan struct{}
	puts atomic.Int64
}

func (c *counter) Put(Revision) {
	<-c.let
	c.puts.Add(1)
}

// TestSyncedComesAfterEverythingWasTold: an activator that is told late would answer 404 for revisions that exist.
func TestSyncedComesAfterEverythingWasTold(t *testing.T) {
	const many = 3000
	synctest.Test(t, func(t *testing.T) {
		var objects []runtime.Object
		for i := range many {
			u := object(map[string]any{})
			u.SetName(fmt.Sprintf("cart-%05d", i))
			u.SetUID(types.UID(fmt.Sprint(i)))
			objects = append(objects, u)
		}
		gvr := schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "revisions"}
		revisions := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{gvr: "RevisionList"}, objects...)
		c := &counter{let: make(chan struct{})}
		w, err := NewWatcher(&Cluster{typed: fake.NewSimpleClientset(), dynamic: revisions}, netip.MustParseAddr("10.1.0.1"), c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		told, done := make(chan int64, 1), make(chan error)
		go func() { done <- w.Run(ctx, func() { told <- c.puts.Load() }) }()
		time.Sleep(time.Minute) // of the bubble: every list is there by then
		if !w.sources.revisions.HasSynced() || len(told) > 0 {
			t.Errorf("listed %t, said to be synced %t while the first revision is being told; want true, false", w.sources.revisions.HasSynced(), len(told) > 0)
		}
		close(c.let)
		if n := <-told; n != many {
			t.Errorf("synced after %d revisions, want %d", n, many)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestWatcherSkipsWhatIsNotKnatives(t *testing.T) {
	j := newJournal()
	w := &Watcher{sink: j, revs: map[identity.Key]*known{}}
	w.revisionChanged("nonsense")
	w.revisionGone("nonsense")
	w.privateChanged(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "other"}})
	w.privateGone(&unstructured.Unstructured{})
	if len(j.lines) > 0 || len(w.revs) > 0 {
		t.Errorf("heard %q, knows %v, want nothing", j.lines, w.revs)
	}
}
