package launch

import (
	"path/filepath"
	"strconv"
	"strings"
)

// component is one process of the cluster.
type component struct {
	name   string
	args   []string
	health string // URL that answers 200 when it is ready; empty: nobody waits
}

// controllers are those that a cluster of Deployments and Services needs. Without a cloud, volumes or certificates of nodes the others have nothing
// to do.
var controllers = strings.Join([]string{
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller",
	"endpointslice-controller", "endpoints-controller", "endpointslice-mirroring-controller",
	"serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
	"namespace-controller", "garbage-collector-controller", "pod-garbage-collector-controller",
	"disruption-controller", "horizontal-pod-autoscaler-controller", "node-lifecycle-controller", "clusterrole-aggregation-controller",
}, ",")

// pair puts what the cluster has in both families into their order.
func (o Options) pair(four, six string) string {
	if o.IPv6First {
		four, six = six, four
	}
	return four + "," + six
}

// first is what the cluster has in the family that comes first.
func (o Options) first(four, six string) string {
	one, _, _ := strings.Cut(o.pair(four, six), ",")
	return one
}

// components lists the processes in the order of their start.
func components(o Options) []component {
	pki := func(name string) string { return filepath.Join(o.State, "pki", name) }
	kube := func(user string) string { return kubeconfig(o.State, user) }
	return []component{
		{"etcd", []string{
			"--name=rouse", "--data-dir=" + filepath.Join(o.State, "etcd"),
			"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
			"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=rouse=" + peerURL,
			"--unsafe-no-fsync", // the data ends with the command
			"--log-level=warn",
		}, ""},
		{"kube-apiserver", []string{
			"--etcd-servers=" + etcdURL, "--bind-address=" + o.first("0.0.0.0", "::"), "--advertise-address=" + o.first(nodeIP, nodeIP6), "--secure-port=" + apiPort,
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"), "--client-ca-file=" + pki("ca.crt"),
			"--service-account-key-file=" + pki("accounts.key"), "--service-account-signing-key-file=" + pki("accounts.key"),
			"--service-account-issuer=https://kubernetes.default.svc." + domain, "--service-cluster-ip-range=" + o.pair(services, services6),
			"--authorization-mode=RBAC", "--allow-privileged=true",
			"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			"--profiling=false",
		}, "https://" + nodeIP + ":" + apiPort + "/readyz"},
		{"kube-controller-manager", []string{
			"--kubeconfig=" + kube("controllers"), "--authentication-kubeconfig=" + kube("controllers"), "--authorization-kubeconfig=" + kube("controllers"),
			"--bind-address=127.0.0.1", "--secure-port=10257", "--leader-elect=false", "--use-service-account-credentials=true",
			"--service-account-private-key-file=" + pki("accounts.key"), "--root-ca-file=" + pki("ca.crt"),
			"--controllers=" + controllers,
			// As managed clusters have it. With the default of 20 requests a second, pods of a burst would wait for their objects.
			"--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false",
		}, "https://127.0.0.1:10257/healthz"},
		{"kube-scheduler", []string{
			"--kubeconfig=" + kube("scheduler"), "--authentication-kubeconfig=" + kube("scheduler"), "--authorization-kubeconfig=" + kube("scheduler"),
			"--bind-address=127.0.0.1", "--secure-port=10259", "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false",
		}, "https://127.0.0.1:10259/healthz"},
		{"kube-proxy", []string{
			"--kubeconfig=" + kube("proxy-delayed"), "--proxy-mode=nftables", "--hostname-override=" + nodeName, "--cluster-cidr=" + o.pair(podNetwork, podNetwork6),
			"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
			// The machine's limits of connection tracking are not ours to change.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		}, "http://127.0.0.1:10256/livez"},
		{"node-agent", []string{
			"--kubeconfig=" + kube("node"), "--node-name=" + nodeName, "--gateway=" + gateway, "--gateway6=" + gateway6, "--ipv6-first=" + strconv.FormatBool(o.IPv6First), "--bridge=" + bridge, "--dns=" + nodeIP,
			"--images=" + o.Images, "--shim=" + filepath.Join(o.Bin, "container"), "--state=" + filepath.Join(o.State, "node"), "--cgroup=" + o.Cgroup,
			"--cert=" + pki("kubelet.crt"), "--key=" + pki("kubelet.key"), "--client-ca=" + pki("ca.crt"), "--v=2",
		}, ""},
	}
}
