package kube

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/rousehq/rouse/internal/portalloc"
)

// When another Service gave its port back: a moment before synthetic time begins, and so long before that it is free.
const (
	gone     = "1999-12-31T23:59:00Z"
	longGone = "1999-12-31T23:00:00Z"
)

// portsRig is an instance of control with the Deployment hello, and a server that keeps the book of ports. The instance
// hears of the book by its own writes and by sees.
type portsRig struct {
	*rig
	control *Control
	t       *testing.T
	server  *fake.Clientset
	limit   atomic.Int32 // of ports that the ConfigMap takes; 0 for none
}

func withPorts(t *testing.T, within portalloc.Range, book map[string]string, test func(*portsRig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &portsRig{rig: newRig(t), t: t, server: fake.NewClientset()}
		var version int
		var mu sync.Mutex
		r.server.PrependReactor("*", "configmaps", func(a k8stesting.Action) (bool, runtime.Object, error) {
			if w, ok := a.(interface{ GetObject() runtime.Object }); ok {
				mu.Lock()
				defer mu.Unlock()
				version++
				m := w.GetObject().(*corev1.ConfigMap)
				if limit := int(r.limit.Load()); limit > 0 && len(m.Data) > limit {
					return true, nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("ConfigMap").GroupKind(), m.Name, field.ErrorList{field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize)})
				}
				m.ResourceVersion = strconv.Itoa(version)
			}
			return false, nil, nil
		})
		client := &Client{core: r.server}
		ports := newPorts(client, "rouse-system", "rouse-ports", within, slog.New(slog.DiscardHandler))
		r.mirror.ports, r.publisher.queue = ports, newQueue()
		r.control = &Control{cfg: Config{Namespace: "rouse-system", PortBook: "rouse-ports"}, Publisher: r.publisher, cluster: r.Cluster, mirror: r.mirror, ports: ports,
			membership: newMembership(MembershipConfig{Namespace: "rouse-system", Name: "b", Buckets: 1}, client, r.Cluster)}
		r.control.listen()
		r.control.read.Store(true)
		if book != nil {
			r.writes(book)
			r.sees()
		}
		r.deployment(0)
		r.service(helloService(nil))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, run := range []func(context.Context){ports.run, r.control.sweep, r.mirror.run} {
			running.Go(func() { run(ctx) })
		}
		r.mirror.queue.Add(key{"default", "hello"})
		r.settle()
		test(r)
		cancel()
		running.Wait()
	})
}

// settle lets everything come to rest.
func (r *portsRig) settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (r *portsRig) book() map[string]string {
	r.t.Helper()
	m, err := r.server.CoreV1().ConfigMaps("rouse-system").Get(r.t.Context(), "rouse-ports", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Data
}

// writes is somebody else who replaces the book; nil deletes it.
func (r *portsRig) writes(book map[string]string) {
	r.t.Helper()
	api := r.server.CoreV1().ConfigMaps("rouse-system")
	if _, err := api.Get(r.t.Context(), "rouse-ports", metav1.GetOptions{}); err == nil {
		if err := api.Delete(r.t.Context(), "rouse-ports", metav1.DeleteOptions{}); err != nil {
			r.t.Fatal(err)
		}
	}
	if book == nil {
		return
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "rouse-system", Name: "rouse-ports"}, Data: book}
	if _, err := api.Create(r.t.Context(), m, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// sees is what the watch of ConfigMaps brings.
func (r *portsRig) sees() {
	m, err := r.server.CoreV1().ConfigMaps("rouse-system").Get(r.t.Context(), "rouse-ports", metav1.GetOptions{})
	if err != nil {
		r.configs.put(key{"rouse-system", "rouse-ports"}, nil)
		return
	}
	r.configs.put(key{"rouse-system", "rouse-ports"}, configMapOf(m))
}

func (r *portsRig) expect(what string, listening bool) {
	r.t.Helper()
	if got := r.mirror.get(key{"default", "hello"}); got.listening() != listening {
		r.t.Errorf("%s: its ports are %v, want that it listens: %t", what, got.ports, listening)
	}
}

// TestPortsAreAskedForAgain: an instance that is not the first one gets a port for its workload when there is room again,
// and says only once that there was none.
func TestPortsAreAskedForAgain(t *testing.T) {
	withPorts(t, portalloc.Range{First: 20000, Last: 20000}, map[string]string{"20000": "default/other/http"}, func(r *portsRig) {
		r.expect("no port is free", false)
		time.Sleep(3 * portSweep)
		r.expect("no port is free for long", false)
		if said := len(r.mirror.reporter.out); said != 1 {
			t.Errorf("%d Events about ports, want one", said)
		}
		r.writes(map[string]string{"20000": "default/other/http released " + longGone})
		time.Sleep(portSweep)
		r.settle()
		r.expect("there is room", true)
		if book := r.book(); book["20000"] != "default/hello/http" {
			t.Errorf("the book says %v", book)
		}
		if said := r.mirror.reporter.said[key{"default", "hello"}][subjectOf(r.mirror.get(key{"default", "hello"}).object)]; len(said) != 0 {
			t.Errorf("it is still said that %v", said)
		}
	})
}

// TestRefusedPortsThatNobodyNeeds are not asked for again.
func TestRefusedPortsThatNobodyNeeds(t *testing.T) {
	withPorts(t, portalloc.Range{First: 20000, Last: 20000}, map[string]string{"20000": "default/other/http"}, func(r *portsRig) {
		r.deployments.put(key{"default", "hello"}, nil)
		r.settle()
		r.writes(map[string]string{"20000": "default/other/http released " + longGone})
		r.control.ports.release(map[portalloc.Holder]bool{})
		time.Sleep(2 * portSweep)
		r.settle()
		if book := r.book(); len(book) != 0 {
			t.Errorf("the book says %v, want no port for a workload that is gone", book)
		}
	})
}

// TestTheBookOfPortsIsLost: one that was deleted, or put back as it was before, takes no port away that a workload uses.
func TestTheBookOfPortsIsLost(t *testing.T) {
	for name, tc := range map[string]struct {
		book map[string]string // what is left of it
		want map[string]string
		port uint16
	}{
		"deleted":      {nil, map[string]string{"20001": "default/hello/http", "20002": "default/gone/http released " + gone}, 20001},
		"empty":        {map[string]string{}, map[string]string{"20001": "default/hello/http"}, 20001},
		"older":        {map[string]string{"20003": "default/other/http"}, map[string]string{"20001": "default/hello/http", "20003": "default/other/http"}, 20001},
		"another port": {map[string]string{"20003": "default/hello/http"}, map[string]string{"20003": "default/hello/http"}, 20003},
	} {
		for _, watched := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				withPorts(t, portalloc.DefaultRange, map[string]string{"20001": "default/hello/http", "20002": "default/gone/http released " + gone}, func(r *portsRig) {
					r.writes(tc.book)
					if watched {
						r.sees()
					} else { // another write finds it
						_, _, _ = r.control.ports.port(portalloc.HolderOf("default", "new", "http"), "new") // it is asked for; the answer comes later
					}
					r.settle()
					book := r.book()
					if !watched {
						for port, holder := range book {
							if holder == "default/new/http" {
								delete(book, port)
							}
						}
					}
					if diff := cmp.Diff(tc.want, book); diff != "" {
						t.Errorf("the book, watched %t (-want +got):\n%s", watched, diff)
					}
					if got := r.mirror.get(key{"default", "hello"}).ports; !slices.Equal(got, []uint16{tc.port}) {
						t.Errorf("the workload listens on %v, want %d", got, tc.port)
					}
					if puts := r.puts; len(puts) > 2 || len(puts[len(puts)-1].Ports) == 0 {
						t.Errorf("activators were told %+v: more than they need to know", puts)
					}
				})
			})
		}
	}
}

// TestLookedAtBecauseOfPorts: those alone whose ports are others now.
func TestLookedAtBecauseOfPorts(t *testing.T) {
	r := newRig(t)
	r.publisher.queue = newQueue()
	c := &Control{Publisher: r.publisher, cluster: r.Cluster, mirror: r.mirror, ports: r.mirror.ports}
	c.listen()
	r.deployment(0)
	r.service(helloService(nil))
	r.hello()
	looks := func(book map[string]string, version string) int {
		r.mirror.ports.read(&configMap{data: book, version: version})
		n := len(r.mirror.queue.order)
		for range n {
			k, _ := r.mirror.queue.take()
			r.mirror.queue.Done(k)
		}
		return n
	}
	for i, tc := range []struct {
		book map[string]string
		want int
	}{
		{map[string]string{"20001": "default/hello/http"}, 0},
		{map[string]string{"20001": "default/hello/http", "20007": "default/other/http"}, 0},
		{map[string]string{"20009": "default/hello/http"}, 1},
		{map[string]string{"20001": "default/hello/http released 2026-01-02T03:04:05Z"}, 1},
	} {
		if got := looks(tc.book, strconv.Itoa(i+2)); got != tc.want {
			t.Errorf("%v: %d looks, want %d", tc.book, got, tc.want)
		}
	}
}

// TestABackupWasPutBack: versions of the server go back, and a port is found, recorded and known all the same.
func TestABackupWasPutBack(t *testing.T) {
	const h = portalloc.Holder("default/new/http")
	restored := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rouse-ports", ResourceVersion: "500"}, Data: map[string]string{"20001": "default/old/http"}}
	for name, tc := range map[string]struct {
		watched bool // the watch says so
		asked   bool // somebody asks for a port
	}{"a port is asked for": {false, true}, "the watch tells of it": {true, false}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := fake.NewClientset(restored.DeepCopy())
				p := newPorts(&Client{core: server}, "ns", "rouse-ports", portalloc.DefaultRange, slog.New(slog.DiscardHandler))
				p.read(&configMap{data: map[string]string{"20001": "default/old/http", "20002": "default/late/http"}, version: "1000"})
				rounds := 0
				p.changed = func() { // as the mirror does for a workload that does not listen where the book says
					rounds++
					if tc.asked {
						_, _, _ = p.port(h, "new")
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { p.run(ctx) })
				if tc.asked {
					_, _, _ = p.port(h, "new")
				}
				if tc.watched {
					p.read(configMapOf(restored))
				}
				<-time.After(time.Minute)
				synctest.Wait()
				if _, ok, _ := p.port(h, ""); ok != tc.asked {
					t.Errorf("its port is known: %t, want %t", ok, tc.asked)
				}
				if p.version != "500" {
					t.Errorf("the version that is known is %s, want that of the server, 500", p.version)
				}
				got, err := server.CoreV1().ConfigMaps("ns").Get(ctx, "rouse-ports", metav1.GetOptions{})
				if err != nil || got.Data["20002"] != "default/late/http" {
					t.Errorf("recorded: %v, %v; want the port that the backup knew nothing of, too", got.Data, err)
				}
				if rounds > 3 {
					t.Errorf("%d rounds, want a few", rounds)
				}
				cancel()
				running.Wait()
			})
		})
	}
}

// TestRoundsThatChangeNothing are paced, whoever asks because of each.
func TestRoundsThatChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rouse-ports", ResourceVersion: "1"}})
		p := newPorts(&Client{core: server}, "ns", "rouse-ports", portalloc.DefaultRange, slog.New(slog.DiscardHandler))
		rounds := 0
		p.changed = func() {
			rounds++
			p.mu.Lock()
			defer p.mu.Unlock()
			p.signal()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.run(ctx) })
		p.changed()
		<-time.After(time.Minute)
		synctest.Wait()
		if rounds > 40 {
			t.Errorf("%d rounds within a minute, want one in 3 s in the end", rounds)
		}
		cancel()
		running.Wait()
	})
}

// TestTheBookIsFull: the ConfigMap takes no more, which is said of the workload that gets no port; ports are given back all
// the same, and then there is room.
func TestTheBookIsFull(t *testing.T) {
	withPorts(t, portalloc.DefaultRange, map[string]string{"20001": "default/hello/http"}, func(r *portsRig) {
		r.expect("before", true)
		r.limit.Store(1)
		r.service(helloService(func(s *corev1.Service) { s.Name, s.Annotations = "other", map[string]string{} }))
		o := *r.deployments.get(key{"default", "hello"})
		o.Name, o.UID = "other", "u2"
		r.deployments.put(key{"default", "other"}, &o)
		r.settle()
		said := func() string {
			r.mirror.reporter.mu.Lock()
			defer r.mirror.reporter.mu.Unlock()
			for _, c := range r.mirror.reporter.said[key{"default", "other"}][subjectOf(&o)][fromLook] {
				return c.reason + ": " + c.text
			}
			return ""
		}
		if got := said(); !strings.HasPrefix(got, "ActivatorPortsExhausted: ") || !strings.Contains(got, "1 MiB") {
			t.Errorf("said %q, want that the ConfigMap is full", got)
		}
		r.expect("the other", true)
		r.limit.Store(0)
		time.Sleep(2 * portSweep)
		r.settle()
		if got, book := said(), r.book(); got != "" || len(book) != 2 {
			t.Errorf("there is room: still said %q, the book says %v", got, book)
		}
	})
}
