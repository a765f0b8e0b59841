package launch

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hardware is the bridge's own address on the link. Without one the kernel gives it the lowest of its ports': it changes when a pod with a lower
// one comes or goes, and the other pods send what they have for the node into nothing. By IPv4 they hear of it, as the node asks aloud for the new
// pod; by IPv6 they find out after half a minute.
var hardware = net.HardwareAddr{0x0a, 0x58, 10, 88, 0, 1}

// makeBridge connects the node's own network with the pods', in both families.
func makeBridge() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, HardwareAddr: hardware}}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(br)); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return errors.Join(address(br, gateway, services), address(br, gateway6, services6))
}

// address gives the bridge an address of the node. ClusterIPs get a route so that the node can send there at all; kube-proxy rewrites the packets
// before they leave.
func address(br netlink.Link, gateway, services string) error {
	addr, err := netlink.ParseAddr(gateway)
	if err != nil {
		return err
	}
	ips, err := netlink.ParseIPNet(services)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD // nobody else has it, and whoever looks for a second first cannot be listened on
	}
	if err := netlink.AddrAdd(br, addr); err != nil {
		return fmt.Errorf("bridge: address %s: %w", gateway, err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: ips, Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("bridge: route to %s: %w", services, err)
	}
	return nil
}
