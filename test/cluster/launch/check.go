package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Check says what this machine lacks for a cluster, with the remedy. It tries the namespaces out: containers of CI may be root and yet forbid them.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("cluster: needs root, for namespaces and mounts: run it with sudo -E")
	}
	var errs []error
	for _, need := range []struct{ command, remedy string }{
		{"nft", "apt-get install nftables"},
		{"mount", "apt-get install mount"},
		{"umount", "apt-get install mount"},
		{"nsenter", "apt-get install util-linux"},
	} {
		if _, err := exec.LookPath(need.command); err != nil {
			errs = append(errs, fmt.Errorf("cluster: %s is missing: %s", need.command, need.remedy))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return errors.New("cluster: the kernel has no IPv6, and the cluster is dual-stack: boot without ipv6.disable=1 (net.ipv6.conf.all.disable_ipv6=1 does no harm), " +
			"or load the module: modprobe ipv6")
	}
	probe := exec.Command("nft", "add table ip probe; add table ip6 probe; list tables")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if out, err := probe.CombinedOutput(); err != nil {
		return fmt.Errorf("cluster: no private namespaces, or no nftables for IPv4 and IPv6 in them (%w: %s): run it on a machine or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN "+
			"(docker run --privileged)", err, out)
	}
	return nil
}

// namespaces are what the cluster has of its own.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
