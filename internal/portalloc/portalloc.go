// Package portalloc gives each port of each Service a port of its own on the activators.
//
// What it promises: a port has one holder; a holder keeps its port as long as it is not released and lies in the range,
// and gets the same one back when it returns in time; one that gets another because the range is another may go on using
// the former one during that one's quarantine; a released port is not given to another holder before its quarantine is over, because
// clients and routers may still send to it. Equal books and equal requests give equal answers.
//
// What it does not: store the book, or open ports.
//
// Concurrency: a Book is for one goroutine at a time.
package portalloc

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quarantine is how long a released port stays unused.
const Quarantine = 10 * time.Minute

// Range is the ports that may be given, both ends included.
type Range struct{ First, Last uint16 }

// DefaultRange lies outside the node ports (30000–32767) and Linux's ephemeral ports (32768–60999).
var DefaultRange = Range{20000, 29999}

// Holes that a range must not touch.
var reserved = []struct {
	Range
	what string
}{{Range{30000, 32767}, "Kubernetes' node ports"}, {Range{32768, 60999}, "Linux's ephemeral ports"}, {Range{1, 1023}, "privileged ports"}}

// ParseRange reads "20000-29999".
func ParseRange(s string) (Range, error) {
	lo, hi, _ := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(lo, 10, 16)
	last, err2 := strconv.ParseUint(hi, 10, 16)
	r := Range{uint16(first), uint16(last)}
	if err1 != nil || err2 != nil || first == 0 || last < first {
		return r, fmt.Errorf("%q is no range of ports such as 20000-29999", s)
	}
	for _, hole := range reserved {
		if r.First <= hole.Last && r.Last >= hole.First {
			return r, fmt.Errorf("%q overlaps %s (%s): take another range", s, hole.Range, hole.what)
		}
	}
	return r, nil
}

// String returns the range as ParseRange reads it.
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Has says whether a port is in the range.
func (r Range) Has(port uint16) bool { return port >= r.First && port <= r.Last }

func (r Range) size() int { return int(r.Last) - int(r.First) + 1 }

// Holder names a port of a Service: "namespace/service/port".
type Holder string

// HolderOf makes a Holder; port is the port's name or, when it has none, its number.
func HolderOf(namespace, service, port string) Holder {
	return Holder(namespace + "/" + service + "/" + port)
}

// Service returns the namespace and the name of the holder's Service.
func (h Holder) Service() (namespace, name string) {
	parts := strings.SplitN(string(h), "/", 3)
	if len(parts) < 3 {
		return "", ""
	}
	return parts[0], parts[1]
}

// former names who had a port before it got another: by a mark that can't be part of a port's name, so that a book is read
// likewise by those who know nothing of former ports.
func (h Holder) former() Holder { return h + "@former" }

// Lease is one given port.
type Lease struct {
	Holder Holder
	// Workload is the name of what the port leads to: after the Service has changed hands nothing else says it.
	Workload string
	// Released is zero while the holder has the port.
	Released time.Time
}

// Book is which ports are given to whom. The zero value is empty.
type Book struct {
	ports   map[uint16]Lease
	holders map[Holder]uint16
}

// Decode reads what Encode wrote; what does not belong there is reported and left out.
func Decode(data map[string]string) (*Book, []error) {
	b := &Book{ports: make(map[uint16]Lease), holders: make(map[Holder]uint16)}
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(data)) {
		port, err := strconv.ParseUint(k, 10, 16)
		given, released, _ := strings.Cut(data[k], " released ")
		holder, workload, _ := strings.Cut(given, " for ")
		l := Lease{Holder: Holder(holder), Workload: workload}
		if workload == "" {
			_, l.Workload = l.Holder.Service()
		}
		if err == nil && released != "" {
			l.Released, err = time.Parse(time.RFC3339, released)
		}
		if err == nil && (port == 0 || strings.Count(holder, "/") != 2) {
			err = fmt.Errorf("%q is no port of a Service such as default/hello/http", holder)
		}
		if _, twice := b.holders[l.Holder]; err == nil && twice {
			err = fmt.Errorf("%s has a port already", l.Holder)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", k, err))
			continue
		}
		b.ports[uint16(port)], b.holders[l.Holder] = l, uint16(port)
	}
	return b, errs
}

// Encode writes the book as the data of a ConfigMap: by port.
func (b *Book) Encode() map[string]string {
	data := make(map[string]string, len(b.ports))
	for port, l := range b.ports {
		v := string(l.Holder)
		if _, service := l.Holder.Service(); l.Workload != service {
			v += " for " + l.Workload
		}
		if !l.Released.IsZero() {
			v += " released " + l.Released.UTC().Format(time.RFC3339)
		}
		data[strconv.Itoa(int(port))] = v
	}
	return data
}

// Port returns the holder's port; ok is false when it has none or has released it.
func (b *Book) Port(h Holder) (port uint16, ok bool) {
	port, l, ok := b.Lease(h)
	return port, ok && l.Released.IsZero()
}

// Lease returns the holder's port and what it is given for, also when it is in quarantine.
func (b *Book) Lease(h Holder) (port uint16, l Lease, ok bool) {
	port, ok = b.holders[h]
	return port, b.ports[port], ok
}

// Clone returns a book that is equal and shares nothing.
func (b *Book) Clone() *Book {
	return &Book{ports: maps.Clone(b.ports), holders: maps.Clone(b.holders)}
}

// Recover enters what another book gave and this one knows nothing of, neither the port nor the holder, and returns how
// many ports that were. A book loses no port that was not released before: one that did is an older state, and the
// holders use their ports all the same.
func (b *Book) Recover(from *Book) (entered int) {
	for port, l := range from.ports {
		_, taken := b.ports[port]
		if _, has := b.holders[l.Holder]; !taken && !has && l.Released.IsZero() {
			b.set(port, l)
			entered++
		}
	}
	return entered
}

// Leases returns every port that is given or in quarantine.
func (b *Book) Leases() map[uint16]Lease { return maps.Clone(b.ports) }

// Former returns the port that the holder had before the one that it has, while nobody else gets it.
func (b *Book) Former(h Holder) (port uint16, ok bool) {
	port, ok = b.holders[h.former()]
	return port, ok
}

// Moving returns how many holders have a former port.
func (b *Book) Moving() (n int) {
	for h := range b.holders {
		if strings.HasSuffix(string(h), string(Holder("").former())) {
			n++
		}
	}
	return n
}

// Assign gives the holder a port of the range that leads to a workload, the one it has or had if possible. One outside of
// the range becomes the holder's former port, and is in quarantine from then on. It fails when the range has no free port:
// then a holder keeps the one that it has. The search starts at a place of the holder's own, so that the order of requests
// matters little.
func (b *Book) Assign(h Holder, workload string, r Range, now time.Time) (uint16, error) {
	had, was, has := b.Lease(h)
	if has && r.Has(had) {
		b.ports[had] = Lease{Holder: h, Workload: workload}
		return had, nil
	}
	port, free := b.free(h, r)
	if !free {
		err := fmt.Errorf("all %d ports of %s are taken or in quarantine for %s: widen ROUSE_ACTIVATOR_PORTS", r.size(), r, Quarantine)
		if !has || !was.Released.IsZero() {
			return 0, err
		}
		b.ports[had] = Lease{Holder: h, Workload: workload}
		return had, err
	}
	if has {
		b.Release(h, now)
		b.retire(had, h)
	}
	b.set(port, Lease{Holder: h, Workload: workload})
	return port, nil
}

// free returns the port that a holder gets of a range: its former one, when the range has become again what it was.
func (b *Book) free(h Holder, r Range) (port uint16, ok bool) {
	if port, ok = b.Former(h); ok && r.Has(port) {
		return port, true
	}
	hash := fnv.New32a()
	hash.Write([]byte(h))
	start := int(hash.Sum32() % uint32(r.size()))
	for i := range r.size() {
		port = r.First + uint16((start+i)%r.size())
		if _, taken := b.ports[port]; !taken {
			return port, true
		}
	}
	return 0, false
}

// retire makes a released port its holder's former one. The one that was that only serves its quarantine from then on.
func (b *Book) retire(port uint16, h Holder) {
	rename := func(port uint16, to Holder) {
		l := b.ports[port]
		l.Holder = to
		b.set(port, l)
	}
	if older, ok := b.Former(h); ok {
		rename(older, h+Holder("@"+strconv.Itoa(int(older))))
	}
	rename(port, h.former())
}

func (b *Book) set(port uint16, l Lease) {
	if b.ports == nil {
		b.ports, b.holders = make(map[uint16]Lease), make(map[Holder]uint16)
	}
	if before, ok := b.ports[port]; ok {
		delete(b.holders, before.Holder)
	}
	b.ports[port], b.holders[l.Holder] = l, port
}

// Release puts the holder's port into quarantine. What has none is no fault.
func (b *Book) Release(h Holder, now time.Time) {
	if port, l, ok := b.Lease(h); ok && l.Released.IsZero() {
		l.Released = now.Truncate(time.Second)
		b.ports[port] = l
	}
}

// Expire frees the ports whose quarantine is over, and returns when the next one's is; zero when none is left.
func (b *Book) Expire(now time.Time) (next time.Time) {
	for port, l := range b.ports {
		if l.Released.IsZero() {
			continue
		}
		end := l.Released.Add(Quarantine)
		if !now.Before(end) {
			delete(b.ports, port)
			delete(b.holders, l.Holder)
		} else if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	return next
}
