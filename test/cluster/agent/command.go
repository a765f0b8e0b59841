// Package agent is the cluster's one node: kubelet itself, as it is in Kubernetes 1.36.3, with package cri as its container runtime, and a DNS
// server for the pods. What a pod goes through, order, hooks, probes, back-off, status and all, is kubelet's own code; README.md says where
// it stands and what is different here.
//
// The agent expects the network of package launch: the bridge with the node's address. It runs until it is asked to stop, then kills its pods.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Config is what the agent needs to know; every field is a flag of the same name.
type Config struct {
	Kubeconfig string
	NodeName   string
	Gateway    string // the node's address with the length of the pods' network: 10.88.0.1/16
	Gateway6   string // the same in IPv6: fd00:10:88::1/64
	IPv6First  bool   // of the two addresses of the node and of each pod the one of IPv6 comes first
	Bridge     string
	DNS        string // address that pods ask for names
	Images     string
	Shim       string
	State      string
	Cgroup     string
	Cert, Key  string // for kubelet's port
	ClientCA   string // signs who may call kubelet's port
	CPUs       int
	MemoryGiB  int
	MaxPods    int
}

// Validate names every flag that is missing.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"kubeconfig", c.Kubeconfig}, {"node-name", c.NodeName}, {"bridge", c.Bridge}, {"dns", c.DNS}, {"images", c.Images}, {"shim", c.Shim},
		{"state", c.State}, {"cgroup", c.Cgroup}, {"cert", c.Cert}, {"key", c.Key}, {"client-ca", c.ClientCA},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("node-agent: --%s is missing", f.name))
		}
	}
	if p, err := netip.ParsePrefix(c.Gateway); err != nil || !p.Addr().Is4() {
		errs = append(errs, fmt.Errorf("node-agent: --gateway=%s: want an IPv4 address with a length, such as 10.88.0.1/16", c.Gateway))
	}
	if p, err := netip.ParsePrefix(c.Gateway6); err != nil || !p.Addr().Is6() || p.Bits() > 96 {
		errs = append(errs, fmt.Errorf("node-agent: --gateway6=%s: want an IPv6 address with a length of 96 at most, such as fd00:10:88::1/64", c.Gateway6))
	}
	return errors.Join(errs...)
}

// NewCommand returns the command `node-agent`.
func NewCommand() *cobra.Command {
	cfg := Config{}
	cmd := &cobra.Command{
		Use: "node-agent", Short: "kubelet with local processes as containers", Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "how to reach the API server")
	f.StringVar(&cfg.NodeName, "node-name", "node1", "name of the node")
	f.StringVar(&cfg.Gateway, "gateway", "10.88.0.1/16", "the node's address, with the length of the pods' network")
	f.StringVar(&cfg.Gateway6, "gateway6", "fd00:10:88::1/64", "the node's IPv6 address, with the length of the pods' network")
	f.BoolVar(&cfg.IPv6First, "ipv6-first", false, "IPv6 addresses come first")
	f.StringVar(&cfg.Bridge, "bridge", "pods0", "the bridge that pods are connected to")
	f.StringVar(&cfg.DNS, "dns", "10.88.0.1", "address where pods ask for names, and where the agent answers")
	f.StringVar(&cfg.Images, "images", "", "image registry/NAME:tag is the binary NAME in this directory")
	f.StringVar(&cfg.Shim, "shim", "", "the built cmd/container")
	f.StringVar(&cfg.State, "state", "", "directory for pods' files and logs")
	f.StringVar(&cfg.Cgroup, "cgroup", "rouse-cluster", "parent cgroup of the containers")
	f.StringVar(&cfg.Cert, "cert", "", "certificate of kubelet's port")
	f.StringVar(&cfg.Key, "key", "", "its key")
	f.StringVar(&cfg.ClientCA, "client-ca", "", "authority of those who may call kubelet's port")
	f.IntVar(&cfg.CPUs, "cpus", 64, "CPUs that the node says it has: requests are bookkeeping, not measured")
	f.IntVar(&cfg.MemoryGiB, "memory", 256, "GiB of memory that the node says it has")
	f.IntVar(&cfg.MaxPods, "max-pods", 1000, "pods that the node takes")
	return cmd
}

// Run blocks until ctx is done or kubelet cannot start.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	return run(ctx, cfg)
}
