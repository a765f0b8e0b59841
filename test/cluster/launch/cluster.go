package launch

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// startTimeout bounds each component's start, on a machine that is busy.
const startTimeout = 2 * time.Minute

// cluster keeps the components. Its methods are safe for concurrent use, but for start and end.
type cluster struct {
	o      Options
	began  time.Time
	client *http.Client // an administrator's, set when the keys are there
	delay  *delay
	stops  []func()

	mu      sync.Mutex // guards running
	running map[string]*running
}

func newCluster(o Options) *cluster {
	return &cluster{o: o, began: time.Now(), running: make(map[string]*running)}
}

// start returns when the node is ready and pods can be made.
func (c *cluster) start(ctx context.Context) error {
	if err := writeKeys(c.o.State); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := c.connect(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	c.lap("keys")
	if err := c.serve(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	all := components(c.o)
	for _, comp := range all[:2] { // nothing else can start before these
		if err := c.bringUp(ctx, comp); err != nil {
			return err
		}
	}
	for _, comp := range all[2:] {
		if err := c.launch(comp); err != nil {
			return err
		}
	}
	for _, comp := range all[2:] {
		if err := c.await(ctx, comp); err != nil {
			return err
		}
	}
	return errors.Join(c.until(ctx, "the node is ready", c.nodeReady), c.until(ctx, "namespace default has its ServiceAccount", func(ctx context.Context) error {
		_, err := c.get(ctx, c.api("/api/v1/namespaces/default/serviceaccounts/default"))
		return err
	}))
}

func (c *cluster) lap(what string) {
	if c.o.Verbose {
		fmt.Fprintf(os.Stderr, "cluster: %6.2f s %s\n", time.Since(c.began).Seconds(), what)
	}
}

// connect makes the administrator's client.
func (c *cluster) connect() error {
	t, err := c.transport("admin")
	c.client = &http.Client{Transport: t, Timeout: 5 * time.Second}
	return err
}

// transport speaks to the components as a user. It does not verify who answers: everybody in here is ours, and some sign for themselves.
func (c *cluster) transport(user string) (*http.Transport, error) {
	pki := filepath.Join(c.o.State, "pki", user)
	cert, err := tls.LoadX509KeyPair(pki+".crt", pki+".key")
	return &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, err
}

func (c *cluster) bringUp(ctx context.Context, comp component) error {
	if err := c.launch(comp); err != nil {
		return err
	}
	return c.await(ctx, comp)
}

// await returns when a component answers for itself, or has ended.
func (c *cluster) await(ctx context.Context, comp component) error {
	if comp.health == "" {
		return nil
	}
	return c.until(ctx, comp.name+" is ready", func(ctx context.Context) error {
		_, err := c.get(ctx, comp.health)
		return err
	})
}

// until calls check until it returns nil, a component ends, or patience does.
func (c *cluster) until(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			c.lap(what)
			return nil
		}
		if died := c.died(); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster: waiting until %s: %w; logs are in %s", what, err, filepath.Join(c.o.State, "log"))
		case <-tick.C:
		}
	}
}

func (c *cluster) api(path string) string { return "https://" + nodeIP + ":" + apiPort + path }

func (c *cluster) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

func (c *cluster) nodeReady(ctx context.Context) error {
	body, err := c.get(ctx, c.api("/api/v1/nodes/"+nodeName))
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
		Spec struct{ Taints []struct{ Key string } }
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return err
	}
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("node %s has taints %v", nodeName, node.Spec.Taints)
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == "Ready" && cond.Status == "True" {
			return nil
		} else if cond.Type == "Ready" {
			return fmt.Errorf("node %s: %s", nodeName, cond.Message)
		}
	}
	return fmt.Errorf("node %s has no condition Ready", nodeName)
}

// end kills everything; process 1's end would, too.
func (c *cluster) end() {
	for i := len(c.stops) - 1; i >= 0; i-- {
		c.stops[i]()
	}
	c.mu.Lock()
	all := make([]*running, 0, len(c.running))
	for _, r := range c.running {
		all = append(all, r)
	}
	c.mu.Unlock()
	for _, r := range all {
		r.kill()
	}
}
