package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Build makes a table, or reports every fault of the configuration, each with the name of its route. The sequences
// of splits that prev has too go on where they are; prev may be nil.
func Build(cfg Config, prev *Table) (*Table, error) {
	b := builder{
		table: &Table{exact: map[string]*entry{}, wild: map[string]*entry{}, seqs: map[string]*sequence{}},
		prev:  prev,
		owner: map[string]string{},
		hosts: map[string][]string{},
	}
	for i := range cfg.Routes {
		b.route(&cfg.Routes[i])
	}
	for i := range cfg.Answers {
		b.answer(&cfg.Answers[i])
	}
	if len(b.faults) > 0 {
		return nil, errors.Join(b.faults...)
	}
	b.finish()
	return b.table, nil
}

type builder struct {
	table   *Table
	prev    *Table
	owner   map[string]string // host, path and headers → name of the route that has them
	hosts   map[string][]string
	answers []*answer
	faults  []error
}

func (b *builder) refuse(kind, name, format string, args ...any) {
	b.faults = append(b.faults, fmt.Errorf("%s %s: %s", kind, name, fmt.Sprintf(format, args...)))
}

func (b *builder) route(r *Route) {
	path, ok := b.path("route", r.Name, r.Path)
	if !b.weights(r) || !b.headers("route", r.Name, r.Headers) || !ok {
		return
	}
	if len(r.Hosts) == 0 {
		b.refuse("route", r.Name, "has no host; write * for every host")
	}
	b.hosts[r.Name] = append(b.hosts[r.Name], r.Hosts...)
	headers := slices.Clone(r.Headers)
	var seq *sequence // one for all hosts of the route, so that the share holds over them together
	for _, host := range r.Hosts {
		h, err := pattern(host)
		if err != nil {
			b.refuse("route", r.Name, "host %q %v", host, err)
			continue
		}
		key := h + path
		if len(headers) > 0 {
			key = fmt.Sprintf("%s %q", key, sorted(headers))
		}
		if other, twice := b.owner[key]; twice {
			b.refuse("route", r.Name, "host %s with path /%s is already taken by route %s", h, strings.TrimPrefix(path, "/"), other)
			continue
		}
		b.owner[key] = r.Name
		if seq == nil {
			seq = b.sequence(key)
		}
		b.table.seqs[key] = seq
		b.entry(h).add(path, &rule{name: r.Name, headers: headers, split: newSplit(r.Backends, seq)})
	}
}

// sequence takes over the one that the previous table has under the same host, path and headers.
func (b *builder) sequence(key string) *sequence {
	if b.prev != nil {
		if s, ok := b.prev.seqs[key]; ok {
			return s
		}
	}
	return &sequence{}
}

func sorted(hs []HeaderMatch) []HeaderMatch {
	return slices.SortedFunc(slices.Values(hs), func(a, b HeaderMatch) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
}

// maxWeight keeps sums of weights far from overflow.
const maxWeight = 1 << 30

func (b *builder) weights(r *Route) bool {
	sum := 0
	for _, t := range r.Backends {
		if t.Weight < 0 || t.Weight > maxWeight {
			b.refuse("route", r.Name, "weight of %s is %d, must be 0 to %d", t.Revision.Name, t.Weight, maxWeight)
			return false
		}
		sum += t.Weight
	}
	if sum == 0 {
		b.refuse("route", r.Name, "no backend has a weight")
	}
	return sum > 0
}

func (b *builder) headers(kind, name string, hs []HeaderMatch) bool {
	for _, h := range hs {
		if h.Name == "" || h.Kind > Contains {
			b.refuse(kind, name, "a header match needs a name and a known kind")
			return false
		}
	}
	return true
}

// path returns a prefix as tables hold it: no final slash, and empty for every path.
func (b *builder) path(kind, name, path string) (string, bool) {
	if path != "" && path[0] != '/' {
		b.refuse(kind, name, "path %q must start with a slash", path)
		return "", false
	}
	if strings.ContainsAny(path, "?#") {
		b.refuse(kind, name, "path %q must not hold a query or fragment", path)
		return "", false
	}
	return strings.TrimRight(path, "/"), true
}

func (b *builder) answer(a *Answer) {
	path, ok := b.path("answer", a.Name, a.Path)
	if !b.headers("answer", a.Name, a.Headers) || !ok {
		return
	}
	if a.Status < 200 || a.Status > 599 || a.Mode > Placeholder {
		b.refuse("answer", a.Name, "status is %d, must be 200 to 599, and mode one of always, while-cold, placeholder", a.Status)
		return
	}
	hosts := a.Hosts
	if a.Route != "" && len(hosts) == 0 {
		if hosts = b.hosts[a.Route]; len(hosts) == 0 {
			b.refuse("answer", a.Name, "there is no route %s", a.Route)
		}
	}
	out := &answer{Answer: *a, path: path}
	out.Hosts = nil
	if a.Route == "" && len(hosts) == 0 {
		hosts = []string{"*"}
	}
	for _, host := range hosts {
		h, err := pattern(host)
		if err != nil {
			b.refuse("answer", a.Name, "host %q %v", host, err)
			continue
		}
		out.Hosts = append(out.Hosts, h)
	}
	for _, h := range out.Hosts {
		b.entry(h)
	}
	b.answers = append(b.answers, out)
}

// entry returns the entry of a host pattern, a new one if need be.
func (b *builder) entry(h string) *entry {
	if h == "*" {
		if b.table.any == nil {
			b.table.any = &entry{}
		}
		return b.table.any
	}
	m := b.table.exact
	if suffix, wild := strings.CutPrefix(h, "*"); wild {
		m, h = b.table.wild, suffix
	}
	if m[h] == nil {
		m[h] = &entry{}
	}
	return m[h]
}

func (e *entry) add(path string, r *rule) {
	if path == "" {
		e.root = append(e.root, r)
		return
	}
	if e.paths == nil {
		e.paths = map[string][]*rule{}
	}
	e.paths[path] = append(e.paths[path], r)
	e.longest = max(e.longest, len(path))
}

// finish orders the rules of each entry and gives each the answers that cover it.
func (b *builder) finish() {
	for h, e := range b.table.exact {
		b.finishEntry(h, e)
	}
	for suffix, e := range b.table.wild {
		b.finishEntry("*"+suffix, e)
	}
	if b.table.any != nil {
		b.finishEntry("*", b.table.any)
	}
}

func (b *builder) finishEntry(host string, e *entry) {
	mostHeaders := func(x, y *rule) int { return len(y.headers) - len(x.headers) }
	slices.SortStableFunc(e.root, mostHeaders)
	for _, rules := range e.paths {
		slices.SortStableFunc(rules, mostHeaders)
	}
	for _, a := range b.answers {
		if slices.ContainsFunc(a.Hosts, func(p string) bool { return covers(p, host) }) {
			e.answers = append(e.answers, a)
		}
	}
}
