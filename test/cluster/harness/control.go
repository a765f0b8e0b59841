package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Component names, for Stop and Start.
const (
	APIServer   = "kube-apiserver"
	Controllers = "kube-controller-manager"
	Scheduler   = "kube-scheduler"
	Proxy       = "kube-proxy"
	Etcd        = "etcd"
)

// Stop kills a component of the control plane with SIGKILL. It comes back when the test ends, unless Start brought it back before.
func (c *Cluster) Stop(component string) {
	c.t.Helper()
	c.control("stop", url.Values{"component": {component}})
	c.t.Cleanup(func() {
		// The test's context is done by now.
		if err := control(context.Background(), "start", url.Values{"component": {component}}); err != nil {
			c.t.Errorf("start %s again: %v", component, err)
		}
	})
}

// Start starts a stopped component and waits until it says that it is ready; a running one is left alone.
func (c *Cluster) Start(component string) {
	c.t.Helper()
	c.control("start", url.Values{"component": {component}})
}

// DelaySlices makes kube-proxy hear of EndpointSlices this much later, until the test ends: as on a large, busy cluster. Everybody else hears of
// them at once.
func (c *Cluster) DelaySlices(d time.Duration) {
	c.t.Helper()
	c.control("delay", url.Values{"slices": {d.String()}})
	c.t.Cleanup(func() {
		if err := control(context.Background(), "delay", url.Values{"slices": {"0s"}}); err != nil {
			c.t.Errorf("delay of slices: %v", err)
		}
	})
}

func (c *Cluster) control(action string, args url.Values) {
	c.t.Helper()
	if err := control(c.Context, action, args); err != nil {
		c.t.Fatal(err)
	}
}

// control asks the process that keeps the cluster.
func control(ctx context.Context, action string, args url.Values) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", os.Getenv(EnvControl))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cluster/"+action+"?"+args.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cluster: %s: %w", action, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("cluster: %s %v: %s", action, args, bytes.TrimSpace(text))
	}
	return err
}

// processOf finds a container's first process by its ID in the pod's status.
func processOf(id string) (int, error) {
	_, id, _ = strings.Cut(id, "://")
	files, err := filepath.Glob(filepath.Join(os.Getenv(EnvState), "node", "containers", "*", id+".pid"))
	if err != nil || len(files) != 1 {
		return 0, fmt.Errorf("container %q has no process", id)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}
