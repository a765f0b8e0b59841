package activator

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

// homes returns which pod each of n sessions goes to when nothing is in flight.
func homes(t *testing.T, r *revision, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		p := get(t, r, hashOf(string(rune('a'+i%26))+time.Duration(i).String()))
		all[i] = p.uid
		p.release(served)
	}
	return all
}

// TestSessionsMoveOnlyWithTheirPods: a pod that goes or comes moves its own share of the sessions, and no other. The
// shares are even.
func TestSessionsMoveOnlyWithTheirPods(t *testing.T) {
	const sessions, pods = 10_000, 10
	s := settings()
	s.ContainerConcurrency = 0
	a, r := newDispatcher(t, Config{}, s)
	eps := readyPods(pods, nil)
	publish(a, 1, eps...)
	before := homes(t, r, sessions)
	share := map[string]int{}
	for _, uid := range before {
		share[uid]++
	}
	for uid, n := range share {
		if math.Abs(float64(n)-sessions/pods) > 0.15*sessions/pods {
			t.Errorf("%s has %d sessions of %d, want a tenth", uid, n, sessions)
		}
	}
	publish(a, 2, readyPods(pods, nil)[1:]...)
	without := homes(t, r, sessions)
	publish(a, 3, readyPods(pods+1, nil)...)
	with := homes(t, r, sessions)
	moved := 0
	for i := range before {
		if before[i] != "pod-0000" && without[i] != before[i] {
			t.Fatalf("session %d moved from %s to %s when another pod went", i, before[i], without[i])
		}
		if with[i] != before[i] {
			moved++
			if with[i] != "pod-0010" {
				t.Fatalf("session %d moved from %s to %s when another pod came", i, before[i], with[i])
			}
		}
	}
	if want := sessions / (pods + 1); math.Abs(float64(moved-want)) > 0.15*float64(want) {
		t.Errorf("%d sessions moved to the new pod, want about %d", moved, want)
	}
}

// TestBoundedLoad sends everything in one session: no pod gets more than a quarter above the average, and the session
// is back home once that is over.
func TestBoundedLoad(t *testing.T) {
	s := settings()
	s.ContainerConcurrency = 0
	a, r := newDispatcher(t, Config{}, s)
	publish(a, 1, readyPods(10, nil)...)
	const session = 42
	first := get(t, r, session)
	held := []*pod{first}
	for range 999 {
		held = append(held, get(t, r, session))
	}
	for uid, n := range a.Use(hello) {
		if n > 125 {
			t.Errorf("%s has %d of 1000 requests over 10 pods, want at most 125", uid, n)
		}
	}
	for _, p := range held {
		p.release(served)
	}
	if p := get(t, r, session); p != first {
		t.Errorf("afterwards the session goes to %s, want %s again", p.uid, first.uid)
	}
}

// TestFullPodIsPassedOver: a session whose pod has no free slot goes elsewhere, and does not wait.
func TestFullPodIsPassedOver(t *testing.T) {
	a, r := newDispatcher(t, Config{}, settings()) // limit 1
	publish(a, 1, readyPods(3, nil)...)
	seen := map[*pod]bool{}
	for range 3 {
		seen[get(t, r, 42)] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d pods serve the session's 3 requests, want 3", len(seen))
	}
}

// TestSessionNames: where the name of a session comes from, and what the client is sent.
func TestSessionNames(t *testing.T) {
	for _, c := range []struct {
		name     string
		affinity Affinity
		header   map[string]string
		tls      bool
		same     string // session of this text; empty for none
		cookie   bool   // one is set
	}{
		{"off", Affinity{}, map[string]string{"cookie": "s=x"}, false, "", false},
		{"application's cookie", Affinity{By: ByCookie, Name: "sid"}, map[string]string{"cookie": "a=1; sid=abc; b=2"}, false, "abc", false},
		{"another cookie's end", Affinity{By: ByCookie, Name: "sid"}, map[string]string{"cookie": "xsid=abc"}, false, "", false},
		{"no application's cookie", Affinity{By: ByCookie, Name: "sid"}, nil, false, "", false},
		{"header", Affinity{By: ByHeader, Name: "X-User"}, map[string]string{"x-user": "ann"}, false, "ann", false},
		{"no header", Affinity{By: ByHeader, Name: "X-User"}, nil, false, "", false},
		{"own cookie is back", Affinity{By: ByOwnCookie, Name: "pin"}, map[string]string{"cookie": "pin=k3"}, false, "k3", false},
		{"own cookie is new", Affinity{By: ByOwnCookie, Name: "pin", Attributes: "; Path=/a"}, nil, true, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := forwardtest.New("hello")
			x.TLSV = c.tls
			for k, v := range c.header {
				x.Headers[k] = v
			}
			got := c.affinity.session(x, 0)
			if c.same != "" && got != hashOf(c.same) || c.same == "" && !c.cookie && got != 0 {
				t.Errorf("session = %x, want that of %q", got, c.same)
			}
			if (len(x.ResponseAdded) == 1) != c.cookie {
				t.Fatalf("response fields = %q, want a cookie: %v", x.ResponseAdded, c.cookie)
			}
			if c.cookie {
				line := x.ResponseAdded[0]
				value, attributes, _ := strings.Cut(strings.TrimPrefix(line, "Set-Cookie: pin="), ";")
				if got != hashOf(value) || attributes != " Path=/a; HttpOnly; Secure" {
					t.Errorf("%q with session %x, want its own value's and all attributes", line, got)
				}
			}
		})
	}
}

// TestSessionStaysThroughTheHandler plays a browser: the cookie of the first answer leads the later requests to the same
// pod, also when the first met no pod and was parked.
func TestSessionStaysThroughTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.ContainerConcurrency = 10
		s.Affinity = Affinity{By: ByOwnCookie, Name: "pin"}
		w := newWorld(t, s)
		var pods []string
		visit := func(cookie string) *forwardtest.Exchange {
			x := forwardtest.New("hello")
			if cookie != "" {
				x.Headers["cookie"] = cookie
			}
			x.OnForward = func(p *forward.Pool) forward.Result {
				pods = append(pods, w.pools[p])
				return served
			}
			return x
		}
		first := visit("")
		done := w.serve(first)
		synctest.Wait()
		publish(w.Activator, 1, readyPods(20, nil)...)
		<-done
		cookie, _, _ := strings.Cut(strings.TrimPrefix(first.ResponseAdded[0], "Set-Cookie: "), ";")
		for range 10 {
			x := visit(cookie)
			<-w.serve(x)
			if len(x.ResponseAdded) != 0 {
				t.Errorf("the cookie was set again: %q", x.ResponseAdded)
			}
		}
		for _, uid := range pods[1:] {
			if uid != pods[0] {
				t.Fatalf("requests of one session went to %q", pods)
			}
		}
	})
}

// TestOneCookieThoughRevisionsChange: a request that is parked for one revision after the other is sent one cookie, which
// leads the next request to the pod that served the first.
func TestOneCookieThoughRevisionsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.ContainerConcurrency = 10
		s.Affinity = Affinity{By: ByOwnCookie, Name: "pin"}
		w := newWorld(t, s)
		var pods []string
		note := func(p *forward.Pool) forward.Result {
			pods = append(pods, w.pools[p])
			return served
		}
		first := forwardtest.New("hello")
		first.OnForward = note
		done := w.serve(first)
		id := hello
		for _, uid := range []string{"u8", "u9"} {
			synctest.Wait()
			id.UID = uid
			w.Put(id, s)
		}
		w.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: id, Version: 1, Endpoints: readyPods(20, nil)}})
		<-done
		if len(first.ResponseAdded) != 1 {
			t.Fatalf("set with the response: %q, want one cookie", first.ResponseAdded)
		}
		next := forwardtest.New("hello")
		next.Headers["cookie"], _, _ = strings.Cut(strings.TrimPrefix(first.ResponseAdded[0], "Set-Cookie: "), ";")
		next.OnForward = note
		<-w.serve(next)
		if len(pods) != 2 || pods[0] != pods[1] || len(next.ResponseAdded) != 0 {
			t.Errorf("served by %q, the second time with %q; want the same pod and no cookie", pods, next.ResponseAdded)
		}
	})
}

// TestZonePreference: pods of the own zone serve as long as they can, then others.
func TestZonePreference(t *testing.T) {
	zone := func(i int) string { return []string{"a", "b"}[i%2] }
	fill := func(t *testing.T, limit int, z ZonePreference, own string, n int) (home, away int) {
		s := settings()
		s.ContainerConcurrency, s.Zone = limit, z
		a, r := newDispatcher(t, Config{Zone: own}, s)
		publish(a, 1, readyPods(4, zone)...)
		for range n {
			if get(t, r, 0).ep.Zone == "b" {
				home++
			} else {
				away++
			}
		}
		return home, away
	}
	for _, c := range []struct {
		name       string
		limit      int
		z          ZonePreference
		own        string
		n          int
		home, away int
	}{
		{"off", 1, ZonePreference{}, "b", 2, 1, 1},
		{"own zone is not known", 1, ZonePreference{On: true}, "", 2, 1, 1},
		{"first the own", 2, ZonePreference{On: true}, "b", 4, 4, 0},
		{"then the others", 2, ZonePreference{On: true}, "b", 6, 4, 2},
		{"round robin", 5, ZonePreference{On: true}, "b", 10, 10, 0},
		{"without a limit", 0, ZonePreference{On: true}, "b", 100, 100, 0},
		{"without a limit, twice as loaded", 0, ZonePreference{On: true, Spill: 2}, "b", 300, 200, 100},
		{"half of a limit, as loaded", 100, ZonePreference{On: true, Spill: 1}, "b", 100, 50, 50},
		{"no pod there", 1, ZonePreference{On: true}, "c", 2, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			home, away := fill(t, c.limit, c.z, c.own, c.n)
			if slack := c.n / 50; home < c.home-slack || home > c.home+slack || home+away != c.n {
				t.Errorf("%d in the own zone, %d in others; want %d and %d", home, away, c.home, c.away)
			}
		})
	}
}

// TestZoneComesWithSettings: switching the preference on regroups the pods that are there.
func TestZoneComesWithSettings(t *testing.T) {
	s := settings()
	a, r := newDispatcher(t, Config{Zone: "b"}, s)
	publish(a, 1, readyPods(2, func(i int) string { return []string{"a", "b"}[i] })...)
	p := get(t, r, 0)
	if p.ep.Zone != "a" {
		t.Fatalf("the first pod is in zone %s, want a", p.ep.Zone)
	}
	p.release(served)
	s.Zone.On = true
	a.Put(hello, s)
	if p := get(t, r, 0); p.ep.Zone != "b" || p.ep.State != endpoint.Ready {
		t.Errorf("picked zone %s, want b", p.ep.Zone)
	}
}
