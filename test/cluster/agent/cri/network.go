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
)

// netnsDir is where `ip netns` looks, so that people can enter a pod's network by its name.
const netnsDir = "/run/netns"

// quarantine is how many freed addresses rest before the oldest is used again: late packets and caches of a dead pod must
// not reach its successor.
const quarantine = 1024

// network hands out addresses and connects pods to the bridge.
type network struct {
	bridge  netlink.Link
	gateway netip.Prefix

	mu   sync.Mutex // guards what follows
	next netip.Addr
	free []netip.Addr // oldest first
}

func newNetwork(bridge string, gateway netip.Prefix) (*network, error) {
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	return &network{bridge: link, gateway: gateway, next: gateway.Addr()}, os.MkdirAll(netnsDir, 0o755)
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

// attachment is a pod's place in the network.
type attachment struct {
	name string // of the network namespace
	addr netip.Addr
}

func (a attachment) path() string { return filepath.Join(netnsDir, a.name) }

// attach makes a network namespace that is connected to the bridge.
func (n *network) attach(name string) (attachment, error) {
	addr, err := n.take()
	if err != nil {
		return attachment{}, err
	}
	at := attachment{name: name, addr: addr}
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
	return n.configure(h, at.addr)
}

// configure gives the pod its address alone on its link, and everything else by way of the node: answers to what kube-proxy redirected must
// come back through the node, where the redirection is undone, even between neighbours on the bridge.
func (n *network) configure(h *netlink.Handle, addr netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	gw := net.IP(n.gateway.Addr().AsSlice())
	host := func(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(len(ip)*8, len(ip)*8)} }
	return errors.Join(
		h.LinkSetUp(lo),
		h.AddrAdd(eth, &netlink.Addr{IPNet: host(addr.AsSlice())}),
		h.LinkSetUp(eth),
		h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(gw)}),
		h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gw}),
	)
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
			err = openPorts()
		}
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- result{ns, err}
	}()
	r := <-done
	return r.ns, r.err
}

// openPorts lets users other than root listen below port 1024, as containerd's and Docker's pods do. /proc/sys/net shows the namespace of the
// thread that opens a file.
func openPorts() error {
	f, err := os.OpenFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without the setting
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("0")
	return err
}
