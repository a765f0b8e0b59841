package launch

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// makeBridge connects the node's own network with the pods'. ClusterIPs get a route so that the node can send there at all; kube-proxy rewrites the
// packets before they leave.
func makeBridge() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	addr, err := netlink.ParseAddr(gateway)
	if err != nil {
		return err
	}
	ips, err := netlink.ParseIPNet(services)
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.LinkSetUp(lo),
		netlink.AddrAdd(br, addr),
		netlink.LinkSetUp(br),
		netlink.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: ips, Scope: netlink.SCOPE_LINK}),
	)
}
