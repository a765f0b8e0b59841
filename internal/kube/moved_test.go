package kube

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

var elsewhere = portalloc.Range{First: 21000, Last: 21000}

// lastPut is what activators were told of a workload last.
func (r *portsRig) lastPut() (last Routed) {
	r.note(func() { last = r.puts[len(r.puts)-1] })
	return last
}

// TestAnotherRangeOfPorts: a workload gets a port of it, and its Service leads to the former one until as many activators listen on
// the new one; those listen on both until nobody can come to the former one.
func TestAnotherRangeOfPorts(t *testing.T) {
	withPorts(t, elsewhere, map[string]string{"20001": "default/hello/http"}, func(r *portsRig) {
		hello := r.mirror.get(key{"default", "hello"})
		if !slices.Equal(hello.ports, []uint16{21000}) || !slices.Equal(r.lastPut().Ports, []uint16{21000, 20001}) {
			t.Errorf("its port is %v, activators were told %v; want 21000, and 20001 still", hello.ports, r.lastPut().Ports)
		}
		if book := r.book(); book["21000"] != "default/hello/http" || !strings.HasPrefix(book["20001"], "default/hello/http@former released ") {
			t.Errorf("the book says %v", book)
		}
		for _, tc := range []struct {
			name       string
			activators []Activator
			want       string
		}{
			{"nobody has heard of it", []Activator{activatorAt(1, 20001), activatorAt(2, 20001)}, "activators 10.88.9.1:20001 activators 10.88.9.2:20001"},
			{"one listens there", []Activator{activatorAt(1, 20001, 21000), activatorAt(2, 20001)}, "activators 10.88.9.1:20001 activators 10.88.9.2:20001"},
			{"both do", []Activator{activatorAt(1, 20001, 21000), activatorAt(2, 20001, 21000)}, "activators 10.88.9.1:21000 activators 10.88.9.2:21000"},
			{"one could not open the former one", []Activator{activatorAt(1, 20001, 21000), activatorAt(2, 21000)}, "activators 10.88.9.1:21000 activators 10.88.9.2:21000"},
			{"the new one is worse", []Activator{activatorAt(1, 20001)}, "activators 10.88.9.1:20001"},
		} {
			r.activators = tc.activators
			if got := strings.Join(addressesOf(r.publisher.want(hello, mode{}, nil)), " "); got != tc.want {
				t.Errorf("%s: behind the Service is %s, want %s", tc.name, got, tc.want)
			}
		}
		r.control.membership.mu.Lock()
		r.control.membership.confirmed = time.Now().Add(time.Hour) // this instance is the first one
		r.control.membership.mu.Unlock()
		time.Sleep(portalloc.Quarantine - time.Minute)
		r.settle()
		if got := r.lastPut().Ports; len(got) != 2 {
			t.Errorf("just before the end of the quarantine activators listen on %v", got)
		}
		time.Sleep(time.Minute + 2*portSweep)
		r.settle()
		if got, book := r.lastPut().Ports, r.book(); !slices.Equal(got, []uint16{21000}) || len(book) != 1 {
			t.Errorf("after it activators listen on %v, the book says %v", got, book)
		}
		puts := len(r.puts)
		time.Sleep(10 * portSweep)
		r.settle()
		if len(r.puts) != puts {
			t.Errorf("%d more puts of a workload that has moved", len(r.puts)-puts)
		}
	})
}

// TestAnotherRangeForFurtherPorts: likewise, each by itself.
func TestAnotherRangeForFurtherPorts(t *testing.T) {
	r := newRig(t)
	r.mirror.ports = newPorts(nil, "rouse-system", "rouse-ports", portalloc.DefaultRange, slog.New(slog.DiscardHandler))
	r.mirror.ports.read(&configMap{data: map[string]string{
		"20001": "default/hello/http", "20002": "default/hello/metrics", "10002": "default/hello/metrics@former released " + gone}, version: "1"})
	r.deployment(1)
	r.service(helloService(func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9090, TargetPort: intstr.FromInt32(9000)})
	}))
	h := r.hello()
	if !slices.Equal(h.sent.Ports, []uint16{20001}) || len(h.sent.Extra) != 1 || !slices.Equal(h.sent.Extra[0].Ports, []uint16{20002, 10002}) {
		t.Errorf("activators are told of ports %v and of %+v", h.sent.Ports, h.sent.Extra)
	}
	if got := h.before(); !slices.Equal(got, []uint16{20001, 10002}) {
		t.Errorf("before it listened on %v", got)
	}
	if !r.mirror.ports.current(h) {
		t.Error("it is looked at again for ever")
	}
}

// TestAnotherRangeThatIsFull: a workload keeps its port, which is said, and moves when there is room.
func TestAnotherRangeThatIsFull(t *testing.T) {
	withPorts(t, elsewhere, map[string]string{"20001": "default/hello/http", "21000": "default/other/http"}, func(r *portsRig) {
		expect := func(what string, want uint16, complaints int) {
			t.Helper()
			hello := r.mirror.get(key{"default", "hello"})
			r.mirror.reporter.mu.Lock()
			defer r.mirror.reporter.mu.Unlock()
			said := r.mirror.reporter.said[key{"default", "hello"}][subjectOf(hello.object)][fromLook]
			if !slices.Equal(hello.ports, []uint16{want}) || len(said) != complaints {
				t.Errorf("%s: its port is %v, said %q; want %d and %d complaints", what, hello.ports, said, want, complaints)
			}
			if complaints == 1 && (said[0].reason != string(workload.PortsExhausted) || !strings.Contains(said[0].text, "port 20001")) {
				t.Errorf("%s: said %q", what, said)
			}
		}
		time.Sleep(2 * portSweep)
		r.settle()
		expect("full", 20001, 1)
		before := r.mirror.reporter.out
		time.Sleep(3 * portSweep)
		r.settle()
		expect("full for long", 20001, 1)
		if len(before) != 1 {
			t.Errorf("%d Events, want one", len(before))
		}
		r.writes(map[string]string{"20001": "default/hello/http", "21000": "default/other/http released " + longGone})
		time.Sleep(2 * portSweep)
		r.settle()
		expect("there is room", 21000, 0)
	})
}

// TestAnotherRangeForVeryMany: they move in turns, as many at a time as there is room for.
func TestAnotherRangeForVeryMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const more = 3
		all := map[string]string{}
		wanted := map[portalloc.Holder]string{}
		for i := range mostMoving + more {
			h := portalloc.HolderOf("default", fmt.Sprint("s", i), "http")
			all[fmt.Sprint(10000+i)], wanted[h] = string(h), "w"
		}
		book, errs := portalloc.Decode(all)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		p := newPorts(nil, "ns", "rouse-ports", portalloc.DefaultRange, slog.New(slog.DiscardHandler))
		moved := func() (n int) {
			for h := range wanted {
				if port, _ := book.Port(h); p.within.Has(port) {
					n++
				}
			}
			return n
		}
		for range 2 {
			if refused := p.give(book, wanted, time.Now()); len(refused) > 0 || moved() != mostMoving {
				t.Fatalf("%d have moved, %d are refused; want %d and none", moved(), len(refused), mostMoving)
			}
		}
		for _, l := range book.Leases() {
			if l.Released.IsZero() && l.Workload != "w" {
				t.Fatalf("%+v: where it leads is not recorded", l)
			}
		}
		<-time.After(portalloc.Quarantine)
		book.Expire(time.Now())
		if p.give(book, wanted, time.Now()); moved() != mostMoving+more || len(book.Leases()) != mostMoving+2*more {
			t.Errorf("%d have moved, %d ports are in the book", moved(), len(book.Leases()))
		}
	})
}
