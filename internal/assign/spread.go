package assign

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// maxInstances bounds the control instances behind one name.
const maxInstances = 64

// target is one control instance: a URL, and the address to dial when its name has several.
type target struct{ url, addr string }

// spread keeps a stream up to every control instance behind a URL's name until ctx ends. An instance that the name does
// not lead to any more is let go when its stream breaks: a name may forget one that still speaks.
func (c *Client) spread(ctx context.Context, raw string) {
	if c.cfg.Lookup == nil {
		c.connect(ctx, target{url: raw}, func() bool { return true })
		return
	}
	u, err := url.Parse(raw)
	if err != nil {
		return // Validate has parsed it
	}
	var owned sync.WaitGroup
	defer owned.Wait()
	s := &instances{running: map[string]bool{}}
	tick := time.NewTicker(c.cfg.LookupPeriod)
	defer tick.Stop()
	for away := false; ; {
		found, err := c.cfg.Lookup(ctx, u.Hostname())
		news := err != nil && !away
		away = err != nil
		if news && ctx.Err() == nil && c.cfg.Log != nil {
			c.cfg.Log.Warn("control's name cannot be resolved; streams that are up stay", "name", u.Hostname(), "error", err)
		}
		if err == nil {
			for _, addr := range s.list(oneFamily(found)) {
				owned.Go(func() {
					c.connect(ctx, target{raw, net.JoinHostPort(addr, port(u))}, func() bool { return s.keep(addr) })
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// instances are the addresses behind a name, and those that have a stream or try to.
type instances struct {
	mu      sync.Mutex // guards the rest
	listed  []string
	running map[string]bool
}

// list takes what the name leads to now and returns the new ones, which run from now on.
func (s *instances) list(found []string) (started []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = found
	for _, a := range found {
		if !s.running[a] {
			s.running[a] = true
			started = append(started, a)
		}
	}
	return started
}

// keep says whether to connect again; if not, the address does not run any more.
func (s *instances) keep(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.listed, addr) {
		return true
	}
	delete(s.running, addr)
	return false
}

// oneFamily leaves out IPv6 where there is IPv4: both would lead to the same instances, and one activator must not speak
// to an instance twice.
func oneFamily(addrs []string) (out []string) {
	four := func(a string) bool { ip, err := netip.ParseAddr(a); return err == nil && ip.Unmap().Is4() }
	mixed := slices.ContainsFunc(addrs, four)
	for _, a := range addrs {
		if !mixed || four(a) {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxInstances)]
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "wss":
		return "443"
	}
	return "80"
}

// client returns what dials a target: the configured one, or one that leads to its address whatever the name.
func (c *Client) client(to target) *http.Client {
	if to.addr == "" {
		return c.cfg.HTTP
	}
	var dialer net.Dialer
	return &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: false, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, to.addr)
		},
	}}
}
