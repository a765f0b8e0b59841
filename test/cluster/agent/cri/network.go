package cri

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` looks, so that people can enter a pod's network by its name.
const netnsDir = "/run/netns"

// quarantine is how many freed addresses rest before the oldest is used again: late packets and caches of a dead pod must
// not reach its successor.
const quarantine = 1024

// network hands out addresses and connects pods to the bridge.
type network struct {
	bridge   netlink.Link
	gateway  netip.Prefix
	gateway6 netip.Prefix

	mu   sync.Mutex // guards what follows
	next netip.Addr
	free []netip.Addr // oldest first
}

func newNetwork(bridge string, gateway, gateway6 netip.Prefix) (*network, error) {
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	return &network{bridge: link, gateway: gateway, gateway6: gateway6, next: gateway.Addr()}, os.MkdirAll(netnsDir, 0o755)
}

func (n *network) take() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if next := n.next.Next(); len(n.free) < quarantine && n.gateway.Contains(next.Next()) { // the last one is the broadcast address
		n.next = next
		return next, nil
	}
	if len(n.free) == 0 {
		return netip.Addr{}, fmt.Errorf("all addresses of %s are taken", n.gateway.Masked())
	}
	addr := n.free[0]
	n.free = n.free[1:]
	return addr, nil
}

func (n *network) release(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free = append(n.free, addr)
}

// sixth is the IPv6 address that goes with an IPv4 one: the network's prefix, and the IPv4 address in the last 32 bits.
func (n *network) sixth(addr netip.Addr) netip.Addr {
	out, four := n.gateway6.Masked().Addr().As16(), addr.As4()
	copy(out[12:], four[:])
	return netip.AddrFrom16(out)
}

// attachment is a pod's place in the network.
type attachment struct {
	name  string // of the network namespace
	addr  netip.Addr
	addr6 netip.Addr // derived from addr
}

func (a attachment) path() string { return filepath.Join(netnsDir, a.name) }

// attach makes a network namespace that is connected to the bridge.
func (n *network) attach(name string) (attachment, error) {
	addr, err := n.take()
	if err != nil {
		return attachment{}, err
	}
	at := attachment{name: name, addr: addr, addr6: n.sixth(addr)}
	if err := n.connect(at); err != nil {
		return attachment{}, errors.Join(err, n.detach(at))
	}
	return at, nil
}

func (n *network) detach(at attachment) error {
	n.release(at.addr)
	if err := netns.DeleteNamed(at.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("network namespace %s: %w", at.name, err)
	}
	return nil
}

func (n *network) connect(at attachment) error {
	inside, err := newNamespace(at.name)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer inside.Close()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: hostLink(at.addr), MasterIndex: n.bridge.Attrs().Index},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(inside),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link to the bridge: %w", err)
	}
	// A pod reaches itself by its Service: the bridge must send a frame back out of the port that it came from.
	if err := errors.Join(netlink.LinkSetHairpin(veth, true), netlink.LinkSetUp(veth)); err != nil {
		return fmt.Errorf("link to the bridge: %w", err)
	}
	h, err := netlink.NewHandleAt(inside)
	if err != nil {
		return err
	}
	defer h.Close()
	return n.configure(h, at)
}

// configure gives the pod its addresses alone on its link, and everything else by way of the node: answers to what kube-proxy redirected must
// come back through the node, where the redirection is undone, even between neighbours on the bridge.
func (n *network) configure(h *netlink.Handle, at attachment) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	host := func(a netip.Addr) *net.IPNet {
		return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
	}
	if err := errors.Join(h.LinkSetUp(lo), h.LinkSetUp(eth)); err != nil {
		return err
	}
	for _, f := range []struct {
		addr, gateway netip.Addr
		flags         int
	}{
		{at.addr, n.gateway.Addr(), 0},
		{at.addr6, n.gateway6.Addr(), unix.IFA_F_NODAD}, // usable at once: nobody else has it
	} {
		if err := errors.Join(
			h.AddrAdd(eth, &netlink.Addr{IPNet: host(f.addr), Flags: f.flags}),
			h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(f.gateway)}),
			h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: f.gateway.AsSlice()}),
		); err != nil {
			return fmt.Errorf("address %s: %w", f.addr, err)
		}
	}
	return nil
}

// hostLink names the node's end of a pod's link, within the 15 characters that the kernel takes.
func hostLink(addr netip.Addr) string {
	b := addr.As4()
	return fmt.Sprintf("pod-%d-%d", b[2], b[3])
}

// newNamespace makes a named network namespace. The thread visits it and comes back; if it could not, it is left locked, and dies with
// its goroutine.
func newNamespace(name string) (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- result{netns.None(), err}
			return
		}
		defer home.Close()
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = prepare()
		}
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- result{ns, err}
	}()
	r := <-done
	return r.ns, r.err
}

// prepare sets up the namespace of the calling thread, which is the one that /proc/sys/net shows. Users other than root may listen below port
// 1024, as in containerd's and Docker's pods. Links do not look for duplicates of their addresses, which takes a second, nor for routers.
func prepare() error {
	return errors.Join(
		sysctl("ipv4/ip_unprivileged_port_start", "0"),
		sysctl("ipv6/conf/default/accept_dad", "0"),
		sysctl("ipv6/conf/default/accept_ra", "0"),
		sysctl("ipv6/conf/default/disable_ipv6", "0"), // where the kernel hands down what the node's ports have
	)
}

func sysctl(name, value string) error {
	f, err := os.OpenFile("/proc/sys/net/"+name, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without the setting
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}
