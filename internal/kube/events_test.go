package kube

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// said empties the backlog of Events, and returns them as "REASON TEXT".
func said(r *reporter) (all []string) {
	for len(r.out) > 0 {
		e := <-r.out
		all = append(all, e.Reason+" "+e.Message)
	}
	return all
}

// TestEachSourceKeepsToItsOwn: what one says, or takes back, neither repeats nor hides what another one said.
func TestEachSourceKeepsToItsOwn(t *testing.T) {
	r := newReporter(nil, slog.New(slog.DiscardHandler))
	hello := subject{"apps/v1", "Deployment", key{"default", "hello"}, "u1"}
	denied := complaint{"PermissionDenied", "may not"}
	for range 3 {
		r.say(hello, fromEndpoints, denied)
		r.say(hello, fromScale, complaint{"PermissionDenied", "may not either"})
		r.say(hello, fromLook, complaint{"UnknownSettings", "nothing reads x"}, complaint{"NameTaken", "twice"})
		r.say(hello, fromPorts)
	}
	if got := said(r); len(got) != 4 {
		t.Errorf("said %q, want each of four complaints once", got)
	}
	r.say(hello, fromScale)
	r.say(hello, fromEndpoints, denied)
	r.say(hello, fromLook, complaint{"NameTaken", "twice"})
	if got := said(r); len(got) != 0 {
		t.Errorf("said %q again", got)
	}
	r.say(hello, fromEndpoints)
	r.say(hello, fromEndpoints, denied)
	if got := said(r); len(got) != 1 {
		t.Errorf("said %q, want what has gone and come back", got)
	}
	r.say(hello, fromLook)
	r.say(hello, fromEndpoints)
	if len(r.said) != 0 {
		t.Errorf("%v is remembered", r.said)
	}
}

// TestEndpointsThatMayNotBeWritten: a missing right is said once, however often the workload is looked at meanwhile; that a namespace is
// being deleted is nobody's fault.
func TestEndpointsThatMayNotBeWritten(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	r.service(helloService(nil))
	p := r.publisher
	p.reporter, p.log = r.mirror.reporter, slog.New(slog.DiscardHandler)
	slices := schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	ending := apierrors.NewForbidden(slices, "hello", errors.New("it is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "NamespaceTerminating"}}
	p.said(r.hello(), ending)
	if got := said(p.reporter); len(got) != 0 {
		t.Errorf("said %q of a namespace that is being deleted", got)
	}
	for range 3 {
		p.said(r.hello(), apierrors.NewForbidden(slices, "hello", errors.New(`User "control" cannot create resource "endpointslices" in API group "discovery.k8s.io" in the namespace "default"`)))
	}
	if got := said(p.reporter); len(got) != 1 || !strings.HasPrefix(got[0], "PermissionDenied the endpoints of Service hello may not be written") {
		t.Errorf("said %q, want once that they may not be written", got)
	}
	p.said(r.hello(), nil)
	if n := len(p.reporter.said); n != 0 {
		t.Errorf("%d are remembered after it was written", n)
	}
}

// TestAPortThatAnActivatorCannotOpen: it is said once, with who refuses and why, until it is open.
func TestAPortThatAnActivatorCannotOpen(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	r.service(helloService(nil))
	p := r.publisher
	p.reporter = r.mirror.reporter
	taken := func(i byte) Activator {
		return Activator{Addr: netip.AddrFrom4([4]byte{10, 88, 9, i}), Connected: true,
			Port: func(uint16) (bool, string) { return false, "bind: address already in use" }}
	}
	r.activators = []Activator{activatorAt(2, 20001), taken(3), taken(1)}
	for range 2 {
		p.saidPorts(r.hello())
		r.activators[1], r.activators[2] = r.activators[2], r.activators[1]
	}
	if got := said(p.reporter); len(got) != 1 || !strings.Contains(got[0], "ActivatorPortRefused the activator at 10.88.9.1 ") ||
		!strings.Contains(got[0], "port 20001: bind: address already in use") {
		t.Errorf("said %q, want once that the first one can't listen", got)
	}
	if got := addressesOf(p.want(r.hello(), mode{}, nil)); len(got) != 1 {
		t.Errorf("%v get its requests, want the one that listens", got)
	}
	r.activators = r.activators[:1]
	p.saidPorts(r.hello())
	if got, n := said(p.reporter), len(p.reporter.said); len(got) != 0 || n != 0 {
		t.Errorf("said %q, and %d are remembered, when all listen", got, n)
	}
}
