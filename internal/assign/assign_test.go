package assign

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// book is a Receiver that writes down what it is told, and what is in force.
type book struct {
	mu     sync.Mutex
	calls  []string                              // guarded by mu
	revs   map[identity.Revision]Revision        // guarded by mu
	pods   map[identity.Revision][]string        // guarded by mu
	grants map[identity.Revision]map[string]int  // guarded by mu
	use    map[string]int                        // guarded by mu
	parked int                                   // guarded by mu
	dead   []string                              // guarded by mu
	hosts  []string                              // guarded by mu
	ports  map[uint16]identity.Revision          // guarded by mu
	fails  map[identity.Revision]string          // guarded by mu
	update map[identity.Revision]endpoint.Update // guarded by mu
}

func newBook() *book {
	return &book{
		revs: map[identity.Revision]Revision{}, pods: map[identity.Revision][]string{}, fails: map[identity.Revision]string{},
		grants: map[identity.Revision]map[string]int{}, use: map[string]int{}, update: map[identity.Revision]endpoint.Update{},
	}
}

func (b *book) note(format string, args ...any) {
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *book) Put(r Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revs[r.ID] = r
	b.note("put %s", r.ID.Name)
}

func (b *book) Remove(id identity.Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.revs, id)
	b.note("remove %s", id.Name)
}

func (b *book) Endpoints(u endpoint.Update) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pods []string
	for _, e := range u.Snapshot.Endpoints {
		pods = append(pods, e.Pod.UID+" "+e.State.String())
	}
	b.pods[u.Snapshot.Revision], b.update[u.Snapshot.Revision] = pods, u
}

func (b *book) Fail(id identity.Revision, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails[id] = reason
}

func (b *book) Grant(id identity.Revision, grants map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grants[id] = grants
}

func (b *book) Use(identity.Revision) (int, map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.parked, maps.Clone(b.use)
}

func (b *book) Blocked(identity.Revision) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.dead)
}

func (b *book) Routes(cfg route.Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts = nil
	for _, r := range cfg.Routes {
		b.hosts = append(b.hosts, r.Hosts...)
	}
	_, err := route.Build(cfg, nil)
	return err
}

func (b *book) Ports(ports map[uint16]identity.Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports = ports
	b.note("ports")
}

// is asks the book under its lock.
func (b *book) is(holds func() bool) func() bool {
	return func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return holds()
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// instance is a running control.
type instance struct {
	*Server
	url string
}

func serve(t *testing.T, cfg ServerConfig) *instance {
	t.Helper()
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() { _ = s.Run(ctx) })
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		gone, stop := context.WithCancel(context.Background())
		stop()
		_ = s.Close(gone) // whoever is still there is cut
		h.Close()
		cancel()
		owned.Wait()
	})
	return &instance{s, "ws" + strings.TrimPrefix(h.URL, "http")}
}

// cut breaks every stream without a word.
func (i *instance) cut() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for st := range i.streams {
		_ = st.conn.CloseNow()
	}
}

func follow(t *testing.T, b *book, urls ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{URLs: urls, Name: "a", MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}, b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func rev(name string) identity.Revision {
	return identity.Revision{Namespace: "default", Name: name, UID: "uid-" + name, Generation: 1}
}

func ep(uid string, s endpoint.State) endpoint.Endpoint {
	return endpoint.Endpoint{Pod: identity.Pod{UID: uid, Addr: netip.MustParseAddrPort("127.0.0.1:80")}, State: s, Sidecar: true, Zone: "z"}
}

func snapshot(id identity.Revision, version uint64, eps ...endpoint.Endpoint) endpoint.Update {
	return endpoint.Update{Snapshot: endpoint.Snapshot{Revision: id, Version: version, Endpoints: eps}}
}

func hostRoute(host string, id identity.Revision) Routes {
	return Routes{Name: host, Config: route.Config{Routes: []route.Route{
		{Name: host, Hosts: []string{host}, Backends: []route.Backend{{Revision: id, Weight: 1}}},
	}}}
}

// TestWhatControlSaysArrives goes through everything that control can say, first as a snapshot, then as changes.
func TestWhatControlSaysArrives(t *testing.T) {
	s := serve(t, ServerConfig{})
	a := Revision{ID: rev("a"), Service: "svc", Settings: Settings{QueueLimit: 7, Timeout: time.Minute}, Ports: []uint16{9001}}
	s.PutRevision(a)
	s.Endpoints(snapshot(a.ID, 4, ep("p1", endpoint.Ready)))
	s.SetRoutes(hostRoute("a.example.com", a.ID))
	b := newBook()
	c := follow(t, b, s.url)
	await(t, "the activator is there", func() bool { return len(s.Activators()) == 1 })
	select {
	case <-c.Synced():
		t.Error("synced before anybody owns anything")
	default:
	}
	s.Own(0, 1)
	<-c.Synced()
	b.mu.Lock()
	if got := b.revs[a.ID]; got.Service != "svc" || got.Settings != a.Settings {
		t.Errorf("revision %+v, want %+v", got, a)
	}
	if e := b.update[a.ID].Snapshot.Endpoints; len(e) != 1 || e[0] != ep("p1", endpoint.Ready) {
		t.Errorf("endpoints %+v, want what was said", e)
	}
	if !slices.Equal(b.hosts, []string{"a.example.com"}) || b.ports[9001] != a.ID {
		t.Errorf("hosts %q, ports %v; want what was said", b.hosts, b.ports)
	}
	b.mu.Unlock()
	s.Endpoints(snapshot(a.ID, 5, ep("p1", endpoint.Draining), ep("p2", endpoint.Ready)))
	await(t, "a pod drains and one comes", b.is(func() bool { return slices.Equal(b.pods[a.ID], []string{"p1 draining", "p2 ready"}) }))
	s.Endpoints(snapshot(a.ID, 6, ep("p2", endpoint.Ready)))
	await(t, "a pod goes", b.is(func() bool {
		return slices.Equal(b.pods[a.ID], []string{"p2 ready"}) && slices.Equal(b.update[a.ID].Delta.Removed, []string{"p1"})
	}))
	s.Fail(a.ID, "no image")
	await(t, "it fails", b.is(func() bool { return b.fails[a.ID] == "no image" }))
	s.SetRoutes(hostRoute("b.example.com", a.ID))
	s.RemoveRoutes("a.example.com")
	await(t, "the routes are others", b.is(func() bool { return slices.Equal(b.hosts, []string{"b.example.com"}) }))
	s.SetPorts(a.ID)
	await(t, "no port is left", b.is(func() bool { return len(b.ports) == 0 }))
	s.RemoveRevision(a.ID)
	await(t, "it is removed", b.is(func() bool { return len(b.revs) == 0 }))
}

// TestABrokenStreamDisturbsNothing: what is the same after a reconnect is not touched, what is gone is removed.
func TestABrokenStreamDisturbsNothing(t *testing.T) {
	s := serve(t, ServerConfig{})
	for _, name := range []string{"same", "gone", "changed"} {
		s.PutRevision(Revision{ID: rev(name), Settings: Settings{QueueLimit: 1}})
	}
	s.Own(0, 1)
	b := newBook()
	c := follow(t, b, s.url)
	<-c.Synced()
	b.mu.Lock()
	b.calls = nil
	b.mu.Unlock()
	// Everything at once, between two streams: the lock keeps the next one from its snapshot.
	s.mu.Lock()
	for st := range s.streams {
		_ = st.conn.CloseNow()
	}
	delete(s.revs, rev("gone"))
	s.revs[rev("changed")].Settings.QueueLimit = 2
	s.mu.Unlock()
	await(t, "the changes are taken over", b.is(func() bool { return len(b.calls) == 2 && b.revs[rev("changed")].Settings.QueueLimit == 2 }))
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Sort(b.calls); !slices.Equal(b.calls, []string{"put changed", "remove gone"}) {
		t.Errorf("the activator was told %q, want the two differences", b.calls)
	}
}

// TestTheNewestOwnerCounts: a shard changes hands between two instances, and back; what an older owner says or leaves out
// does not matter.
func TestTheNewestOwnerCounts(t *testing.T) {
	one, two := serve(t, ServerConfig{Shards: 2}), serve(t, ServerConfig{Shards: 2})
	put := func(s *instance, shard, limit int, names ...string) {
		for _, name := range names {
			s.PutRevision(Revision{ID: rev(name), Shard: shard, Settings: Settings{QueueLimit: limit}})
		}
	}
	put(one, 0, 1, "a", "gone")
	one.Own(0, 1)
	b := newBook()
	c := follow(t, b, one.url, two.url)
	await(t, "the first shard is there", b.is(func() bool { return len(b.revs) == 2 }))
	select {
	case <-c.Synced():
		t.Fatal("synced with one shard of two")
	default:
	}
	put(two, 1, 1, "b")
	two.Own(1, 1)
	<-c.Synced()
	put(two, 0, 2, "a")
	two.Own(0, 2)
	await(t, "the new owner's word counts", b.is(func() bool { return b.revs[rev("a")].Settings.QueueLimit == 2 && len(b.revs) == 2 }))
	put(one, 0, 3, "a") // it has not heard yet
	one.RemoveRevision(rev("a"))
	one.Disown(0)
	put(two, 1, 9, "b") // something that arrives, after which the older owner's words would have, too
	await(t, "the newer word", b.is(func() bool { return b.revs[rev("b")].Settings.QueueLimit == 9 }))
	one.cut()
	two.cut()
	await(t, "all is as the newest owner said", b.is(func() bool { return len(b.revs) == 2 && b.revs[rev("a")].Settings.QueueLimit == 2 }))
	one.PutRevision(Revision{ID: rev("a"), Settings: Settings{QueueLimit: 4}})
	one.Own(0, 3)
	await(t, "the shard is back", b.is(func() bool { return b.revs[rev("a")].Settings.QueueLimit == 4 }))
}

// TestEveryInstanceBehindAName has a stream; one that the name forgets is kept until its stream breaks.
func TestEveryInstanceBehindAName(t *testing.T) {
	one, two := serve(t, ServerConfig{}), serve(t, ServerConfig{})
	_, first, _ := strings.Cut(one.url, "ws://")
	host, port, _ := strings.Cut(first, ":")
	var mu sync.Mutex
	names := []string{host, "::1"}
	c, err := NewClient(ClientConfig{
		URLs: []string{"ws://control.test:" + port}, Name: "a", MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, LookupPeriod: 10 * time.Millisecond,
		Lookup: func(_ context.Context, name string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			if name != "control.test" || names == nil {
				return nil, fmt.Errorf("no such name %q", name)
			}
			return names, nil
		},
	}, newBook())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	await(t, "a stream is up", func() bool { return len(one.Activators()) == 1 })
	mu.Lock()
	names = nil // the resolver is away
	mu.Unlock()
	one.cut()
	await(t, "it is back", func() bool { return c.Counts().Lost > 0 && c.Counts().Connected == 1 })
	mu.Lock()
	names = []string{"127.0.0.9"} // where nobody listens
	mu.Unlock()
	lost := c.Counts().Lost
	await(t, "the new address is tried", func() bool { return c.Counts().Lost > lost+2 })
	if n := len(one.Activators()); n != 1 || !one.Activators()[0].Connected {
		t.Error("the stream that was up was cut because its name is forgotten")
	}
	one.cut()
	await(t, "it is let go", func() bool { return c.Counts().Connected == 0 })
	if len(two.Activators()) != 0 {
		t.Error("somebody went where no name leads")
	}
}

// raw is an activator that speaks by hand.
func raw(t *testing.T, url string, hello string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(64 << 20)
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(hello)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestASlowActivatorGetsTheNewestState: while nobody reads, thousands of changes are a few names, and then the newest state.
func TestASlowActivatorGetsTheNewestState(t *testing.T) {
	s := serve(t, ServerConfig{})
	s.PutRevision(Revision{ID: rev("a")})
	s.Own(0, 1)
	conn := raw(t, s.url, `{"v":1,"hello":{"name":"slow","instance":"slow"}}`)
	await(t, "it is there", func() bool { return len(s.Activators()) == 1 })
	const changes = 5000
	text := strings.Repeat("x", 10_000) // so that what is unread fills every buffer between the two
	for i := range changes {
		s.Fail(rev("a"), fmt.Sprint(i+1, text))
	}
	s.mu.Lock()
	for st := range s.streams {
		if u := st.unsent[0]; len(u.revs) > 1 || len(u.removed)+len(u.routes)+len(u.grants) > 0 {
			t.Errorf("unsent: %+v, want one name at most", u)
		}
	}
	s.mu.Unlock()
	want := fmt.Sprint(changes, text)
	for frames := 1; ; frames++ {
		_, body, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var d down
		if err := json.Unmarshal(body, &d); err != nil {
			t.Fatal(err)
		}
		if len(d.Revisions) > 0 && d.Revisions[0].Failure != nil && *d.Revisions[0].Failure == want {
			if frames >= changes {
				t.Errorf("%d frames for %d changes, want them coalesced", frames, changes)
			}
			return
		}
	}
}

// TestPeersOfOtherVersions: what this build does not know is skipped, on both sides.
func TestPeersOfOtherVersions(t *testing.T) {
	s := serve(t, ServerConfig{})
	s.PutRevision(Revision{ID: rev("a")})
	s.Own(0, 1)
	conn := raw(t, s.url, `{"v":9,"hello":{"name":"new","instance":"i","mood":"good"},"future":{"x":[1]}}`)
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"v":9,"state":"dancing","telemetry":1}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Errorf("a newer activator is told nothing: %v", err)
	}
	b := newBook()
	c, err := NewClient(ClientConfig{URLs: []string{"ws://nobody"}, Name: "a"}, b)
	if err != nil {
		t.Fatal(err)
	}
	var d down
	if err := json.Unmarshal([]byte(`{"v":9,"shard":0,"epoch":1,"begin":true,"end":true,"shards":1,"weather":"fine","revisions":[
		{"id":{"ns":"default","name":"a","colour":"red"},"config":{"settings":{"queueLimit":3,"newLimit":4}},
		 "endpoints":{"version":1,"upserted":[{"uid":"p","addr":"127.0.0.1:1","protocol":"h9","state":"ready"},
		 {"uid":"q","addr":"127.0.0.1:1","protocol":"h1","state":"resting"}]}},
		{"id":{"ns":"default","name":"part"},"failure":"no config"}]}`), &d); err != nil {
		t.Fatal(err)
	}
	m := newMirror(c)
	m.hear(heard{&link{c: c, more: make(chan struct{}, 1)}, &d})
	id := identity.Revision{Namespace: "default", Name: "a"}
	if b.revs[id].Settings.QueueLimit != 3 || !slices.Equal(b.pods[id], []string{"q starting"}) || len(b.revs) != 1 {
		t.Errorf("revisions %v, pods %v; want what is understood: a pod of an unknown protocol is left out, an unknown state is not ready", b.revs, b.pods)
	}
}

// TestTheFirstFrameMayBeFull: what an activator has to say when it connects arrives, whether or not it is one frame with
// hello. A port that was lost there would be thought closed for as long as the stream lasts.
func TestTheFirstFrameMayBeFull(t *testing.T) {
	s := serve(t, ServerConfig{})
	raw(t, s.url, `{"v":1,"hello":{"name":"a","instance":"i"},"state":"ready","ports":[{"port":20001,"open":true}]}`)
	await(t, "the port is open, and the activator ready", func() bool {
		all := s.Activators()
		return len(all) == 1 && all[0].Ready && len(all[0].Ports) == 1
	})
	l := &link{more: make(chan struct{}, 1)}
	l.out.hello = &wireHello{Instance: "i"}
	l.put(func(o *outbox) { o.ports[20001] = wirePortState{Port: 20001, Open: true} })
	first, second, third := l.take(), l.take(), l.take()
	if first.Hello == nil || len(first.Ports) > 0 {
		t.Errorf("first frame %+v, want hello alone: an older control passes over the rest", first)
	}
	if second == nil || second.Hello != nil || len(second.Ports) != 1 || third != nil {
		t.Errorf("then %+v and %+v, want the port, and nothing", second, third)
	}
}

// TestWhatIsGoneHasNoPort: before a revision is removed its port leads to the one that takes its place.
func TestWhatIsGoneHasNoPort(t *testing.T) {
	b := newBook()
	c, err := NewClient(ClientConfig{URLs: []string{"ws://nobody"}, Name: "a"}, b)
	if err != nil {
		t.Fatal(err)
	}
	m, l := newMirror(c), &link{c: c, more: make(chan struct{}, 1)}
	put := func(name string) []wireRevision {
		return []wireRevision{{ID: idOf(rev(name)), Config: &wireConfig{Ports: []uint16{20001}}}}
	}
	m.hear(heard{l, &down{Epoch: 1, Begin: true, Revisions: put("blue"), End: true}})
	m.published, m.cost = time.Now(), time.Minute // ports were handed over just now, which took long
	m.hear(heard{l, &down{Epoch: 1, Revisions: put("green"), Removed: []wireID{idOf(rev("blue"))}}})
	if want := []string{"put blue", "ports", "put green"}; !slices.Equal(b.calls, want) {
		t.Errorf("the activator was told %q, want %q and the rest when its time comes", b.calls, want)
	}
	m.publish()
	if want := []string{"put blue", "ports", "put green", "ports", "remove blue"}; !slices.Equal(b.calls, want) || b.ports[20001] != rev("green") {
		t.Errorf("the activator was told %q, ports %v; want %q", b.calls, b.ports, want)
	}
	m.published, m.cost = time.Now(), time.Minute
	m.hear(heard{l, &down{Epoch: 1, Removed: []wireID{idOf(rev("green"))}}})
	m.hear(heard{l, &down{Epoch: 1, Revisions: put("green")}})
	m.publish()
	if want := []string{"remove green", "put green", "ports"}; !slices.Equal(b.calls[5:], want) {
		t.Errorf("then %q, want %q: what is back is not removed", b.calls[5:], want)
	}
}

// TestWhatIsKnownOfPortsIsNotRepeated: neither does an activator say it twice, nor does control look at everything again
// when one does.
func TestWhatIsKnownOfPortsIsNotRepeated(t *testing.T) {
	var changes atomic.Int64
	s := serve(t, ServerConfig{Changed: func() { changes.Add(1) }})
	conn := raw(t, s.url, `{"v":1,"hello":{"name":"a","instance":"i"},"state":"ready"}`)
	say := func(ports, want string, moves int64) {
		t.Helper()
		before := changes.Load()
		// What is said of a port that nobody looks at shows that all before it was heard.
		for _, frame := range []string{ports, ports, `{"port":1,"open":true}`, `{"port":1}`} {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"v":1,"ports":[`+frame+`]}`)); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "it is heard", func() bool { return changes.Load() >= before+moves+2 })
		state, known := s.Activators()[0].Ports[20001]
		if got := fmt.Sprintf("%t %s", known, state); got != want || changes.Load() != before+moves+2 {
			t.Errorf("after %s twice: %q with %d changes, want %q with %d", ports, got, changes.Load()-before-2, want, moves)
		}
	}
	await(t, "it is there", func() bool { return changes.Load() == 2 })
	say(`{"port":20001,"reason":"in use"}`, "true in use", 1)
	say(`{"port":20001,"open":true}`, "true ", 1)
	say(`{"port":20001}`, "false ", 1)
	say(`{"port":20001}`, "false ", 0)

	c, err := NewClient(ClientConfig{URLs: []string{"ws://nobody"}, Name: "a"}, newBook())
	if err != nil {
		t.Fatal(err)
	}
	m, l := newMirror(c), &link{c: c, more: make(chan struct{}, 1)}
	m.greet[l] = true
	for i, tc := range []struct {
		state wirePortState
		said  bool
	}{
		{wirePortState{Port: 1}, false},
		{wirePortState{Port: 1, Reason: "in use"}, true}, {wirePortState{Port: 1, Reason: "in use"}, false},
		{wirePortState{Port: 1, Open: true}, true}, {wirePortState{Port: 1, Open: true}, false},
		{wirePortState{Port: 1}, true}, {wirePortState{Port: 1}, false},
	} {
		m.tell([]*link{l}, map[uint16]wirePortState{1: tc.state}, "")
		if f := l.take(); (f != nil) != tc.said {
			t.Errorf("%d: %+v makes the frame %+v, want one: %t", i, tc.state, f, tc.said)
		}
	}
}

func TestWhoMayCome(t *testing.T) {
	s := serve(t, ServerConfig{MaxActivators: 1, Authorize: func(_ context.Context, token string) bool { return token == "secret" }})
	dial := func(token string) (int, *websocket.Conn) {
		conn, res, err := websocket.Dial(t.Context(), s.url, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
		if err == nil {
			t.Cleanup(func() { _ = conn.CloseNow() })
		}
		return res.StatusCode, conn
	}
	if status, _ := dial("guess"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token gets %d, want 401", status)
	}
	_, conn := dial("secret")
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"v":1,"hello":{"name":"a","instance":"a"}}`)); err != nil {
		t.Fatal(err)
	}
	await(t, "it is there", func() bool { return len(s.Activators()) == 1 })
	if status, _ := dial("secret"); status != http.StatusServiceUnavailable {
		t.Errorf("one too many gets %d, want 503", status)
	}
	if res, err := http.DefaultClient.Do(probe(t, s.url)); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("a kubelet's probe gets %v, %v; want 200", res, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func probe(t *testing.T, url string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "http"+strings.TrimPrefix(url, "ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", "kube-probe/1.36")
	return r
}

func TestWrongFramesEndTheStream(t *testing.T) {
	s := serve(t, ServerConfig{})
	for _, frame := range []string{`{"v":1}`, `nonsense`, `{"v":1,"hello":{"name":"a"}}`} {
		conn := raw(t, s.url, frame)
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) < websocket.StatusProtocolError {
			t.Errorf("%s: the stream ended with %v, want a refusal", frame, err)
		}
	}
}

// TestImpossibleCountsAreIgnored: a broken activator must not make slots out of nothing.
func TestImpossibleCountsAreIgnored(t *testing.T) {
	s := serve(t, ServerConfig{})
	id := rev("a")
	s.PutRevision(Revision{ID: id, Settings: Settings{ContainerConcurrency: 2}})
	s.Own(0, 1)
	conn := raw(t, s.url, `{"v":1,"hello":{"name":"bad","instance":"bad"}}`)
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := newBook()
	c := follow(t, b, s.url)
	<-c.Synced()
	ack := `{"v":1,"acks":[{"id":{"ns":"default","name":"a","uid":"uid-a","gen":1},"epoch":1,"seq":0,"bounds":{"p":-1000000,"q":99999999999}}],
		"loads":[{"id":{"ns":"default","name":"a","uid":"uid-a","gen":1},"parked":-5,"use":{"p":-7}}]}`
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(ack)); err != nil {
		t.Fatal(err)
	}
	s.Endpoints(snapshot(id, 1, ep("p", endpoint.Ready)))
	await(t, "slots are granted", b.is(func() bool { return b.grants[id]["p"] > 0 }))
	sum := 0
	for _, n := range s.Leases(id, "p") {
		sum += n
	}
	if sum > 2 {
		t.Errorf("leases %v, the limit is 2", s.Leases(id, "p"))
	}
	if parked, inFlight := s.Load(id); parked < 0 || inFlight < 0 {
		t.Errorf("load %d, %d", parked, inFlight)
	}
	if n, _ := s.Unheard(id, func(string) bool { return false }); n < 0 {
		t.Errorf("%d requests, want no negative number", n)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(`{"v":1,"hello":{"name":"a","instance":"i"},"acks":[{"id":{"ns":"d","name":"a"},"seq":1,"bounds":{"p":1}}],"state":"goodbye"}`))
	f.Add([]byte(`{"v":1,"epoch":1,"begin":true,"end":true,"revisions":[{"id":{"ns":"d","name":"a"},"config":{"settings":{"containerConcurrency":1}},"endpoints":{"from":3,"version":4,"removed":["x"]}}],"grants":[{"id":{"ns":"d","name":"a"},"seq":1,"pods":{"p":1}}],"routes":[{"name":"r","routes":[{"name":"r","hosts":["h"],"backends":[{"revision":{},"weight":1}]}],"answers":[{"mode":9,"headers":[{"kind":200}]}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var u up
		if json.Unmarshal(body, &u) == nil && u.Hello == nil {
			s, err := NewServer(ServerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			s.PutRevision(Revision{ID: identity.Revision{Namespace: "d", Name: "a"}, Settings: Settings{ContainerConcurrency: 1}})
			s.Own(0, 0)
			st := &session{s: s, more: make(chan struct{}, 1), unsent: map[int]*unsent{}, known: map[identity.Revision]*known{}}
			st.join(&wireHello{Instance: "i"}, func(error) {})
			st.take()
			st.heard(&u)
			s.decide(time.Now())
		}
		var d down
		if json.Unmarshal(body, &d) == nil {
			c, err := NewClient(ClientConfig{URLs: []string{"ws://x"}, Name: "a"}, newBook())
			if err != nil {
				t.Fatal(err)
			}
			for i := range d.Revisions { // a delta that does not follow cuts the connection, of which there is none here
				if w := d.Revisions[i].Endpoints; w != nil {
					w.From = nil
				}
			}
			newMirror(c).hear(heard{&link{c: c, more: make(chan struct{}, 1)}, &d})
		}
	})
}
