package up

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/route"
)

// narrator writes one line per event that a person cares about. It is safe for concurrent use.
type narrator struct {
	mu  sync.Mutex // guards all below
	out io.Writer
	// services names a revision's service.
	services map[identity.Revision]string
}

// name tells which service a revision is of.
func (n *narrator) name(rev identity.Revision, service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.services[rev] = service
}

func (n *narrator) say(at time.Time, rev identity.Revision, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := n.services[rev]
	if name == "" {
		name = rev.String()
	}
	fmt.Fprintf(n.out, "%s %s: %s\n", at.Format("15:04:05.000"), name, fmt.Sprintf(format, args...))
}

// welcome says what runs and what to try.
func (n *narrator) welcome(o *Options, public net.Addr, plans []*planned) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "rouse is up: %d service(s) behind %s, asleep until the first request\n", len(plans), public)
	for i := range plans {
		p := plans[i]
		fmt.Fprintf(n.out, "  %s  %s\n", p.service.Name, describeSettings(p.config))
	}
	if len(plans) > 0 {
		s := plans[0].service
		host := route.Domains{Public: o.Domain}.Hosts(s.Namespace, s.Name, s.ClusterLocal)[0]
		fmt.Fprintf(n.out, "try it: curl -H 'Host: %s' http://%s/\n", host, reachable(public))
	}
}

// reachable turns a listening address into one to type: the wildcard is localhost.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return a.String()
}

// scaling tells a decision of the control loop.
func (n *narrator) scaling(e control.Event) {
	switch e.Kind {
	case control.Waking:
		n.say(e.Time, e.Revision, "waking, 0→%d: %s", e.To, e.Reason)
	case control.Scaled:
		n.say(e.Time, e.Revision, "%d→%d: %s", e.From, e.To, e.Reason)
	case control.Asleep:
		n.say(e.Time, e.Revision, "asleep: %s", e.Reason)
	case control.ApplyFailed:
		n.say(e.Time, e.Revision, "scaling %d→%d failed: %v", e.From, e.To, e.Err)
	case control.PanicBegins, control.PanicEnds, control.ModeChanged:
		// The change of the number says the same in fewer words; `rouse explain` has the rest.
	}
}

// pod tells what happened to a process.
func (n *narrator) pod(e localpods.Event) {
	switch e.Kind {
	case localpods.Ready:
		n.say(e.Time, e.Revision, "ready in %d ms (pid %d, PORT=%d)", e.After.Milliseconds(), e.PID, e.Port)
	case localpods.WrongPort, localpods.Failing, localpods.Unready:
		n.say(e.Time, e.Revision, "%s: %s", e.Kind, e.Reason)
	case localpods.Exited:
		n.say(e.Time, e.Revision, "exited: %s%s", e.Status, tail(e.Tail))
	case localpods.Starting, localpods.Stopped:
		// Waking and asleep say it.
	}
}

func tail(lines []string) string {
	if len(lines) == 0 {
		return " (it wrote nothing)"
	}
	return "; its last lines:\n    " + strings.Join(lines, "\n    ")
}
