package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/portalloc"
)

// Ports keeps which Service port has which port on the activators in a ConfigMap, where every instance of control finds
// it, also after a restart. Writers are kept apart by the ConfigMap's version. What is asked for at the same time is
// written together.
type Ports struct {
	client    *Client
	namespace string
	name      string
	within    portalloc.Range
	log       *slog.Logger

	mu      sync.Mutex
	book    *portalloc.Book               // guarded by mu; as last read or written; never changed, but replaced
	version string                        // guarded by mu
	wanted  map[portalloc.Holder]string   // guarded by mu; the workload that the port is to lead to
	unused  map[portalloc.Holder]struct{} // guarded by mu
	refused map[portalloc.Holder]refusal  // guarded by mu; until there is room
	wake    chan struct{}

	changed func() // the book is another; set before run
}

// refusal is a port that was asked for while none was free.
type refusal struct {
	workload string
	err      error
}

func newPorts(client *Client, namespace, name string, within portalloc.Range, log *slog.Logger) *Ports {
	return &Ports{
		client: client, namespace: namespace, name: name, within: within, log: log, book: &portalloc.Book{},
		wanted: map[portalloc.Holder]string{}, unused: map[portalloc.Holder]struct{}{}, refused: map[portalloc.Holder]refusal{},
		wake: make(chan struct{}, 1), changed: func() {},
	}
}

// read takes the ConfigMap as it was seen; nil when there is none. Neither one that was deleted nor an older state that
// somebody put back takes a port away: workloads go on using it, and another would get it, too.
func (p *Ports) read(c *configMap) {
	if c == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.version != "" {
			p.signal()
		}
		return
	}
	book, errs := portalloc.Decode(c.data)
	for _, err := range errs {
		p.log.Warn("an activator port is not usable", "configmap", p.name, "error", err)
	}
	p.mu.Lock()
	stale := p.version != "" && !newer(c.version, p.version)
	if !stale {
		if n := book.Recover(p.book); n > 0 {
			p.log.Warn("activator ports that are in use were not recorded any more: they are entered again", "configmap", p.name, "ports", n)
			p.signal()
		}
		p.book, p.version = book, c.version
	} else if older(c.version, p.version) {
		p.signal() // of before our own write, or a backup was put back: the server is asked which
	}
	p.mu.Unlock()
	if !stale {
		p.changed()
	}
}

// port returns the port of a holder. With the name of a workload it sees to it that there will be one of the range, which the
// book says leads there. Refused is why there is none, or why it lies outside of the range still.
func (p *Ports) port(h portalloc.Holder, workload string) (port uint16, ok bool, refused error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.unused, h)
	port, l, ok := p.book.Lease(h)
	if ok = ok && l.Released.IsZero(); !ok {
		port = 0
	}
	fits := ok && p.within.Has(port)
	if r, is := p.refused[h]; !fits && is {
		if workload != "" {
			p.refused[h] = refusal{workload, r.err}
		}
		return port, ok, r.err
	}
	if workload != "" && (!fits || l.Workload != workload) {
		p.wanted[h] = workload
		p.signal()
	}
	return port, ok, nil
}

// former returns the port that a holder had before, while clients may still come to it.
func (p *Ports) former(h portalloc.Holder) (port uint16, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.Former(h)
}

// current says whether a workload listens where the book says, on all its ports, and where those of before are.
func (p *Ports) current(t *tracked) bool {
	p.mu.Lock()
	book := p.book
	p.mu.Unlock()
	for i, port := range t.ports {
		h := t.holder(i)
		now, ok := book.Port(h)
		if former, _ := book.Former(h); !ok || now != port || former != t.formerAt(i) {
			return false
		}
	}
	return len(t.ports) > 0
}

// astray says whether a workload has a port outside of the range.
func (p *Ports) astray(t *tracked) bool {
	return slices.ContainsFunc(t.ports, func(port uint16) bool { return port != 0 && !p.within.Has(port) })
}

// past is a Service that has or had ports.
type past struct {
	service, workload key
	left              time.Time // when it gave them back, as far as the book says; now when it did not
}

// past returns the Services that have ports now, or that gave theirs back so lately that nobody else got them, the
// latest last.
func (p *Ports) past(now time.Time) []past {
	p.mu.Lock()
	leases := p.book.Leases()
	p.mu.Unlock()
	latest := make(map[key]past)
	for _, l := range leases {
		left := l.Released
		if left.IsZero() {
			left = now
		}
		ns, service := l.Holder.Service()
		k := key{ns, service}
		if now.Sub(left) < portalloc.Quarantine && !left.Before(latest[k].left) {
			latest[k] = past{k, key{ns, l.Workload}, left}
		}
	}
	return slices.SortedFunc(maps.Values(latest), func(a, b past) int { return a.left.Compare(b.left) })
}

// lease returns the port that a holder has or had; 0 when it is free again.
func (p *Ports) lease(h portalloc.Holder, now time.Time) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	port, l, ok := p.book.Lease(h)
	if !ok || !l.Released.IsZero() && now.Sub(l.Released) >= portalloc.Quarantine {
		return 0
	}
	return port
}

// release puts the ports of everything that is not in use into quarantine.
func (p *Ports) release(inUse map[portalloc.Holder]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.book.Leases() {
		if l.Released.IsZero() && !inUse[l.Holder] {
			p.unused[l.Holder] = struct{}{}
		}
	}
	p.signal() // also ends quarantines
}

// again asks once more for what was refused and is still in use: room comes without a word to those who wait for it. What
// is refused meanwhile stays refused, so that it is not said anew.
func (p *Ports) again(inUse map[portalloc.Holder]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h, r := range p.refused {
		if port, ok := p.book.Port(h); ok && p.within.Has(port) || !inUse[h] {
			delete(p.refused, h)
			continue
		}
		p.wanted[h] = r.workload
		p.signal()
	}
}

// signal is called with the lock held.
func (p *Ports) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// The pauses between rounds that change nothing double from first to most: who asks because of each would ask for ever.
const (
	firstIdle = 50 * time.Millisecond
	mostIdle  = 3 * time.Second
)

// run writes what is asked for until ctx ends.
func (p *Ports) run(ctx context.Context) {
	idle := firstIdle
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		if p.round(ctx) {
			idle = firstIdle
			continue
		}
		pause(ctx, idle)
		if idle = min(2*idle, mostIdle); len(p.wake) == 0 {
			idle = firstIdle
		}
	}
}

// round writes until it succeeds or ctx ends, and says whether the book became another.
func (p *Ports) round(ctx context.Context) (changed bool) {
	said := ""
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 3*time.Second) {
		changed, err := p.write(ctx)
		if err == nil {
			return changed
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && err.Error() != said {
			said = err.Error()
			p.log.Warn("activator ports are not recorded yet", "configmap", p.name, "error", err)
		}
		pause(ctx, wait)
	}
	return false
}

// write brings the ConfigMap up to what is asked for, and says whether the book became another.
func (p *Ports) write(ctx context.Context) (changed bool, err error) {
	p.mu.Lock()
	wanted, unused, known, began := maps.Clone(p.wanted), slices.Sorted(maps.Keys(p.unused)), p.book, p.version
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	objects := p.client.core.CoreV1().ConfigMaps(p.namespace)
	object, err := objects.Get(ctx, p.name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return false, err
	}
	var book *portalloc.Book
	if missing {
		object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: p.name, Namespace: p.namespace}}
		book = known.Clone()
	} else {
		book, _ = portalloc.Decode(object.Data)
		book.Recover(known)
	}
	now := time.Now()
	book.Expire(now)
	refused := p.give(book, wanted, now)
	for _, h := range unused {
		book.Release(h, now)
	}
	if next := book.Encode(); missing || !maps.Equal(next, object.Data) {
		object.Data = next
		if missing {
			object, err = objects.Create(ctx, object, metav1.CreateOptions{})
		} else {
			object, err = objects.Update(ctx, object, metav1.UpdateOptions{})
		}
		if tooLarge(err) && len(wanted) > 0 {
			p.full(known, began, wanted)
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return p.wrote(book, object.ResourceVersion, began, wanted, unused, refused), nil
}

// mostMoving bounds how many ports have a former one at a time. An activator listens on both, and the ConfigMap names both:
// neither has room for every port twice.
const mostMoving = 2000

// give assigns what is wanted. When the range is another, those that have a port outside of it get one as others of before
// them have left theirs for good.
func (p *Ports) give(book *portalloc.Book, wanted map[portalloc.Holder]string, now time.Time) (refused map[portalloc.Holder]error) {
	refused = make(map[portalloc.Holder]error)
	room := mostMoving - book.Moving()
	for _, h := range slices.Sorted(maps.Keys(wanted)) {
		within := p.within
		if port, ok := book.Port(h); ok && !within.Has(port) {
			if room--; room < 0 {
				within = portalloc.Range{First: port, Last: port}
			}
		}
		if _, err := book.Assign(h, wanted[h], within, now); err != nil {
			refused[h] = err
		}
	}
	return refused
}

// errBookFull is why there is no port although some are free.
var errBookFull = errors.New("the ConfigMap that records them would be larger than the 1 MiB that Kubernetes takes: " +
	"let fewer Services have ports, or give them shorter names")

// full refuses what is wanted, since the ConfigMap can't take it, and asks for a round in which the rest is written.
func (p *Ports) full(known *portalloc.Book, version string, wanted map[portalloc.Holder]string) {
	refused := make(map[portalloc.Holder]error)
	for h := range wanted {
		if port, ok := known.Port(h); !ok || !p.within.Has(port) {
			refused[h] = errBookFull
		}
	}
	p.wrote(known, version, version, wanted, nil, refused)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unused) > 0 {
		p.signal()
	}
}

// noPort says that a holder gets no port, or keeps one outside of the range.
func noPort(book *portalloc.Book, h portalloc.Holder, err error) error {
	if port, ok := book.Port(h); ok {
		return fmt.Errorf("its port %d on the activators is not one of ROUSE_ACTIVATOR_PORTS, and there is no other: %w", port, err)
	}
	return fmt.Errorf("no port on the activators: %w", err)
}

// wrote takes what was read or written while the version that was known was began. Nothing else having come meanwhile, it is
// the latest, also when its version is lower: then a backup of the server was put back. It says
// whether the book became another.
func (p *Ports) wrote(book *portalloc.Book, version, began string, wanted map[portalloc.Holder]string, unused []portalloc.Holder, refused map[portalloc.Holder]error) (changed bool) {
	p.mu.Lock()
	if p.version == began || !newer(p.version, version) {
		changed = !maps.Equal(book.Encode(), p.book.Encode())
		p.book, p.version = book, version
	}
	for h, workload := range wanted {
		if p.wanted[h] == workload {
			delete(p.wanted, h)
		}
		if err := refused[h]; err != nil {
			p.refused[h] = refusal{workload, noPort(book, h, err)}
		} else {
			delete(p.refused, h)
		}
	}
	for _, h := range unused {
		delete(p.unused, h)
	}
	p.mu.Unlock()
	p.changed()
	return changed
}
