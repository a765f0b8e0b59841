package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseWaitsForAnExecProbe: kubelet alone can run the application's exec probe, and the queue-proxy asks for a connection in its place. A
// request from zero, and one to a pod that the probe has taken out, waits for kubelet although the application listens.
func TestRouseWaitsForAnExecProbe(t *testing.T) {
	c := install(t)
	y := strings.Replace(hello(0, "", `target-burst-capacity: "-1"`), "        ports: [{containerPort: 8080}]\n",
		"        ports: [{containerPort: 8080}]\n        readinessProbe: {exec: {command: [test, -e, /shared/open]}, periodSeconds: 1, failureThreshold: 1}\n", 1)
	c.Apply(strings.Replace(y, `{"httpGet":{"path":"/ready","port":8080},"successThreshold":1}`, `{"tcpSocket":{"port":8080},"successThreshold":1}`, 1))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	open := filepath.Join(c.Shared(), "open")
	seen := func(what string) bool {
		return slices.ContainsFunc(c.Journal("hello"), func(e harness.Event) bool { return strings.HasSuffix(e.What, what) })
	}
	// waits sends a request and opens the probe when it has waited for long enough.
	waits := func(what, id string) {
		t.Helper()
		answer := make(chan error, 1)
		go func() {
			r, err := harness.Send(c.Context, "GET", url+"/", map[string][]string{harness.IDHeader: {id}}, nil)
			if err == nil && r.Status != 200 {
				err = fmt.Errorf("%d %q", r.Status, r.Body)
			}
			answer <- err
		}()
		c.Eventually(time.Minute, what+": the application listens", func() error {
			if !seen("listening") {
				return errors.New("not in the journal")
			}
			return nil
		})
		c.Never(3*time.Second, what, func() error {
			if seen(id) {
				return errors.New("the request is at the application before kubelet calls its pod ready")
			}
			return nil
		})
		if err := os.WriteFile(open, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := <-answer; err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !slices.ContainsFunc(c.Pods("app=hello"), isReady) {
			t.Errorf("%s: answered, and kubelet calls no pod ready", what)
		}
	}
	waits("from zero", "from-zero")
	annotate(t, c, "min-scale", "1")
	if err := os.Remove(open); err != nil {
		t.Fatal(err)
	}
	c.Eventually(30*time.Second, "the probe takes the pod out", func() error {
		if slices.ContainsFunc(c.Pods("app=hello"), isReady) {
			return errors.New("it is ready")
		}
		return nil
	})
	lasting(c, time.Second) // activators have heard of it
	waits("with a pod that was taken out", "taken-out")
}

func isReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}
