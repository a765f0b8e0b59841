package kube

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Client reaches an API server. Make one with [Connect] or [ConnectTo].
type Client struct {
	core      kubernetes.Interface
	dynamic   dynamic.Interface
	namespace string
}

// Target says which API server to reach, and as whom, in the way of kubectl.
type Target struct {
	// Files are kubeconfig files; of several those that are there are merged. Without one it is the pod's service account.
	Files []string
	// Context of the files; empty for the current one.
	Context string
	// UserAgent is what the server's audit log calls us.
	UserAgent string
}

// ConnectTo makes a client as [Connect] does, with a choice of contexts.
func ConnectTo(t Target) (*Client, error) {
	if len(t.Files) == 0 && t.Context == "" {
		return Connect("", t.UserAgent)
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: t.Files}
	if len(t.Files) == 1 {
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: t.Files[0]} // which must be there
	}
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: t.Context})
	cfg, err := config.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", strings.Join(t.Files, ", "), err)
	}
	c, err := newClient(cfg, t.UserAgent)
	if err != nil {
		return nil, err
	}
	if c.namespace, _, err = config.Namespace(); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", strings.Join(t.Files, ", "), err)
	}
	return c, nil
}

// Namespace is the one that the kubeconfig's context names, "default" when it names none.
func (c *Client) Namespace() string { return cmp.Or(c.namespace, "default") }

// Connect makes a client from a kubeconfig file, or from the pod's service account when it is empty. It does not talk to
// the server. Its requests are not limited on this side: the server's priority and fairness does that, and a wake-up must
// not wait behind a backlog.
func Connect(kubeconfig, userAgent string) (*Client, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return newClient(cfg, userAgent)
}

func newClient(cfg *rest.Config, userAgent string) (*Client, error) {
	cfg.UserAgent = userAgent
	cfg.QPS = -1
	cfg.Timeout = 0 // watches are long; every other call has a context
	plain := rest.CopyConfig(cfg)
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	custom, err := dynamic.NewForConfig(plain)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return &Client{core: core, dynamic: custom}, nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("service account: %w: outside of a pod set KUBECONFIG", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG %s: %w", kubeconfig, err)
	}
	return cfg, nil
}

// Quiet silences client-go's own log: what it says about a lost watch is said by [Cluster], once.
func Quiet() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
}

// callTimeout bounds one call of the API that is no watch.
const callTimeout = 10 * time.Second
