package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/kubelet/watchdog"

	"github.com/rousehq/rouse/test/cluster/agent/cri"
	"github.com/rousehq/rouse/test/cluster/agent/dns"
)

func run(ctx context.Context, cfg Config) error {
	gateway, gateway6 := netip.MustParsePrefix(cfg.Gateway), netip.MustParsePrefix(cfg.Gateway6) // validated
	runtime, err := cri.New(cri.Config{
		Images: cfg.Images, Shim: cfg.Shim, State: filepath.Join(cfg.State, "containers"), Bridge: cfg.Bridge, Gateway: gateway, Gateway6: gateway6,
		Cgroup: cfg.Cgroup, Log: slog.Default(),
	})
	if err != nil {
		return err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return errors.Join(fmt.Errorf("node-agent: --kubeconfig: %w", err), runtime.Close(ctx))
	}
	names := dns.New(netip.AddrPortFrom(netip.MustParseAddr(cfg.DNS), 53), kubernetes.NewForConfigOrDie(rest))
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { served <- names.Run(ctx) }()
	addresses := []netip.Addr{gateway.Addr(), gateway6.Addr()} // kubelet puts those of pods into the same order
	if cfg.IPv6First {
		slices.Reverse(addresses)
	}
	if err := startKubelet(ctx, cfg, addresses, rest, runtime); err != nil {
		cancel()
		return errors.Join(err, <-served, runtime.Close(ctx))
	}
	err = <-served // ends with ctx, or when the address is taken
	return errors.Join(err, runtime.Close(context.Background()))
}

// startKubelet does what kubelet's own main does, in its order, with the dependencies that don't fit a sandbox replaced: container runtime,
// cadvisor and cgroup manager. Kubernetes' own hollow node (pkg/kubemark) is put together in the same way. kubelet cannot be stopped: its
// goroutines end with the process.
func startKubelet(ctx context.Context, cfg Config, addresses []netip.Addr, rest *rest.Config, runtime *cri.Runtime) error {
	server, err := configure(cfg, addresses)
	if err != nil {
		return err
	}
	deps, err := kubeletapp.UnsecuredDependencies(ctx, server, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	if err := clients(deps, rest, &server.KubeletConfiguration); err != nil {
		return fmt.Errorf("kubelet: clients: %w", err)
	}
	var reload func(<-chan struct{})
	if deps.Auth, reload, err = kubeletapp.BuildAuth(types.NodeName(cfg.NodeName), deps.KubeClient, server.KubeletConfiguration); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	reload(ctx.Done())
	if deps.HealthChecker, err = watchdog.NewHealthChecker(klog.FromContext(ctx)); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	deps.RemoteRuntimeService, deps.RemoteImageService = runtime, runtime
	deps.CAdvisorInterface = machine{cpus: cfg.CPUs, memory: uint64(cfg.MemoryGiB) << 30, dir: cfg.State}
	deps.ContainerManager = cm.NewStubContainerManager()
	deps.PodStartupLatencyTracker = util.NewPodStartupLatencyTracker()
	deps.NodeStartupLatencyTracker = util.NewNodeStartupLatencyTracker()
	return kubeletapp.RunKubelet(ctx, server, deps)
}

// clients gives kubelet its three clients with the limits of its configuration, as cmd/kubelet/app/server.go does.
func clients(deps *kubelet.Dependencies, base *rest.Config, kc *kubeletconfig.KubeletConfiguration) (err error) {
	work, events, heartbeat := rest.CopyConfig(base), rest.CopyConfig(base), rest.CopyConfig(base)
	work.QPS, work.Burst = float32(kc.KubeAPIQPS), int(kc.KubeAPIBurst)
	events.QPS, events.Burst = float32(kc.EventRecordQPS), int(kc.EventBurst)
	heartbeat.QPS = -1
	heartbeat.Timeout = min(kc.NodeStatusUpdateFrequency.Duration, time.Duration(kc.NodeLeaseDurationSeconds)*time.Second)
	if deps.KubeClient, err = kubernetes.NewForConfig(work); err != nil {
		return err
	}
	eventClient, err := kubernetes.NewForConfig(events)
	if err != nil {
		return err
	}
	deps.EventClient = eventClient.CoreV1()
	deps.HeartbeatClient, err = kubernetes.NewForConfig(heartbeat)
	deps.OnHeartbeatFailure = func() {} // there are no stale connections on one machine
	return err
}

// configure returns kubelet's defaults with what the sandbox needs changed. Periods, delays and back-off stay as they are. The node's first address
// is of the family that comes first in pods' statuses, and the one where kubelet listens.
func configure(cfg Config, addresses []netip.Addr) (*options.KubeletServer, error) {
	// Tolerates a machine without /dev/kmsg; containers of CI have none.
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{"KubeletInUserNamespace": true}); err != nil {
		return nil, err
	}
	flags := options.NewKubeletFlags()
	flags.RootDirectory = filepath.Join(cfg.State, "kubelet")
	flags.CertDirectory = filepath.Join(cfg.State, "kubelet", "pki")
	flags.HostnameOverride, flags.NodeIP, flags.KubeConfig = cfg.NodeName, list(addresses), cfg.Kubeconfig
	kc, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, err
	}
	kc.Address, kc.ReadOnlyPort, kc.HealthzPort = addresses[0].String(), 0, 0
	kc.TLSCertFile, kc.TLSPrivateKeyFile, kc.Authentication.X509.ClientCAFile = cfg.Cert, cfg.Key, cfg.ClientCA
	kc.Authentication.Anonymous.Enabled, kc.Authentication.Webhook.Enabled = false, false
	kc.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeAlwaysAllow // whoever has a certificate
	kc.ClusterDNS, kc.ClusterDomain, kc.ResolverConfig = []string{cfg.DNS}, "cluster.local", ""
	kc.PodLogsDir = filepath.Join(cfg.State, "logs")
	kc.VolumePluginDir = filepath.Join(cfg.State, "plugins")
	kc.MaxPods, kc.PodsPerCore = int32(cfg.MaxPods), 0
	kc.EnableControllerAttachDetach = false // that controller does not run here
	kc.MakeIPTablesUtilChains = false
	kc.SerializeImagePulls, kc.RegistryPullQPS = false, 0 // there is no registry to be spared
	withoutCgroups(kc)
	if err := validation.ValidateKubeletConfiguration(kc, utilfeature.DefaultFeatureGate); err != nil {
		return nil, fmt.Errorf("kubelet: configuration: %w", err)
	}
	flags.MinimumGCAge = metav1.Duration{Duration: time.Minute} // the newest dead container stays for `kubectl logs --previous`
	flags.MaxPerPodContainerCount = 1
	return &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *kc}, os.MkdirAll(kc.PodLogsDir, 0o755)
}

func list(addresses []netip.Addr) string {
	all := make([]string, len(addresses))
	for i, a := range addresses {
		all[i] = a.String()
	}
	return strings.Join(all, ",")
}

// withoutCgroups turns off what watches and divides a machine that is kubelet's own: this one is shared with whoever runs the tests.
func withoutCgroups(kc *kubeletconfig.KubeletConfiguration) {
	kc.CgroupsPerQOS, kc.EnforceNodeAllocatable = false, nil
	kc.FailSwapOn, kc.FailCgroupV1 = false, false
	kc.EvictionHard, kc.LocalStorageCapacityIsolation = nil, false
	kc.ImageGCHighThresholdPercent, kc.ImageGCLowThresholdPercent = 100, 99
}
