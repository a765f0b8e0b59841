package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// Environment of a test inside the sandbox; cmd/cluster sets it.
const (
	EnvKubeconfig = "KUBECONFIG"
	EnvImages     = "ROUSE_IMAGES"          // directory of binaries that serve as images
	EnvState      = "ROUSE_CLUSTER_STATE"   // directory with the components' and the pods' logs
	EnvFull       = "ROUSE_FULL"            // 1: full length; the caller sets it, see Full
	EnvControl    = "ROUSE_CLUSTER_CONTROL" // socket that stops and starts components
)

// Cluster is the running cluster, seen from one test and its namespace.
type Cluster struct {
	Config    *rest.Config
	Client    kubernetes.Interface
	Dynamic   dynamic.Interface
	Namespace string
	Context   context.Context // done when the test ends

	t      testing.TB
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

// New connects the test to the cluster and gives it a namespace. Outside the sandbox it fails and says how to get in.
func New(t testing.TB) *Cluster {
	t.Helper()
	for _, name := range []string{EnvKubeconfig, EnvImages, EnvState, EnvControl} {
		if os.Getenv(name) == "" {
			t.Fatalf("%s is not set: this test runs inside the sandbox; use `make e2e`, or `make e2e RUN=%s`", name, t.Name())
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", os.Getenv(EnvKubeconfig))
	if err != nil {
		t.Fatalf("%s: %v", EnvKubeconfig, err)
	}
	cfg.QPS, cfg.Burst = 500, 1000 // the test is not what is measured
	c := &Cluster{Config: cfg, Client: kubernetes.NewForConfigOrDie(cfg), Dynamic: dynamic.NewForConfigOrDie(cfg), Context: t.Context(), t: t}
	c.mapper = newMapper(cfg)
	c.makeNamespace()
	return c
}

// Full reports whether tests should run in full length (make e2e-full) rather than as a part of every change's check.
func Full() bool { return os.Getenv(EnvFull) == "1" }

// As returns a client with a ServiceAccount's own rights, for tests of RBAC.
func (c *Cluster) As(account string) kubernetes.Interface {
	c.t.Helper()
	cfg := rest.CopyConfig(c.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + c.Namespace + ":" + account,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + c.Namespace, "system:authenticated"}}
	return kubernetes.NewForConfigOrDie(cfg)
}

func (c *Cluster) makeNamespace() {
	c.t.Helper()
	name := label(c.t.Name()) + "-" + strings.ToLower(rand.Text()[:5])
	ns, err := c.Client.CoreV1().Namespaces().Create(c.Context, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatalf("namespace: %v", err)
	}
	c.Namespace = ns.Name
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if c.t.Failed() {
			c.dump(ctx)
		}
		c.dropNamespace(ctx)
	})
	// After a test that stopped the API server, controllers' watches come back only when their back-off ends.
	c.Eventually(readyTimeout, "the namespace has its ServiceAccount", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(name).Get(c.Context, "default", metav1.GetOptions{})
		return err
	})
}

// label makes a test's name fit for a namespace, with room for what makes it unique.
func label(name string) string {
	name = strings.Map(func(r rune) rune {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return '-'
		}
		return r
	}, strings.ToLower(name))
	return strings.Trim(name[:min(len(name), 40)], "-")
}

// dropNamespace does not wait until the namespace is gone: its pods may have long grace periods. They are killed at once.
func (c *Cluster) dropNamespace(ctx context.Context) {
	if err := c.Client.CoreV1().Namespaces().Delete(ctx, c.Namespace, metav1.DeleteOptions{}); err != nil {
		c.t.Errorf("delete namespace %s: %v", c.Namespace, err)
	}
	now := int64(0)
	if err := c.Client.CoreV1().Pods(c.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		c.t.Errorf("delete the pods of %s: %v", c.Namespace, err)
	}
}

// Image returns the reference of an image, and fails the test when its binary has not been built.
func (c *Cluster) Image(name string) string {
	c.t.Helper()
	file := filepath.Join(os.Getenv(EnvImages), name)
	if _, err := os.Stat(file); err != nil {
		c.t.Fatalf("image %s: %v; `make e2e` builds ./cmd/... and the module's own test programs as images", name, err)
	}
	return "local/" + name + ":test"
}

// Shared returns a directory on the node that every user may write to, to be mounted with hostPath: what pods write there outlives them.
func (c *Cluster) Shared() string {
	c.t.Helper()
	dir := filepath.Join(os.Getenv(EnvState), "shared", c.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // past the umask
		c.t.Fatal(err)
	}
	return dir
}

// Eventually calls check until it returns nil, and fails the test with its last error when that takes longer than within.
func (c *Cluster) Eventually(within time.Duration, what string, check func() error) {
	c.t.Helper()
	if err := c.Try(within, check); err != nil {
		c.t.Fatalf("not within %v: %s: %v", within, what, err)
	}
}

// Try is Eventually for goroutines other than the test's own: it returns the last error.
func (c *Cluster) Try(within time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(c.Context, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Never fails the test when check returns an error at any time while it lasts.
func (c *Cluster) Never(lasting time.Duration, what string, check func() error) {
	c.t.Helper()
	end := time.NewTimer(lasting)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := check(); err != nil {
			c.t.Fatalf("within %v: %s: %v", lasting, what, err)
		}
		select {
		case <-end.C:
			return
		case <-c.Context.Done():
			c.t.Fatalf("%s: %v", what, c.Context.Err())
		case <-tick.C:
		}
	}
}

// errorf reads better than fmt.Errorf where a condition says what it found.
func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }
