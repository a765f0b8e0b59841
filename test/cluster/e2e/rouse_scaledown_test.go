package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseIdlePodsGoFirst: of three pods the one that works stays when one is to stay.
func TestRouseIdlePodsGoFirst(t *testing.T) {
	c := install(t)
	c.Apply(hello(3, "", `min-scale: "3"`, `target-burst-capacity: "-1"`))
	c.WaitDeployment("hello", 3)
	waitBehind(t, c, "activators")
	url := waitReachable(c)
	const id = "long-one"
	answered := make(chan error, 1)
	go func() {
		r, err := harness.Send(c.Context, "GET", url+"/sleep?for=20s", map[string][]string{"Rouse-Test-Id": {id}}, nil)
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		answered <- err
	}()
	busy := ""
	c.Eventually(10*time.Second, "the long request has a pod", func() error {
		for _, e := range c.Journal("hello") {
			if strings.HasSuffix(e.What, id) {
				busy = e.Name
				return nil
			}
		}
		return fmt.Errorf("not in the journal")
	})
	lasting(c, 3*time.Second) // its report reaches control
	annotate(t, c, "min-scale", "1")
	c.Eventually(time.Minute, "one pod stays", func() error {
		var left []string
		for _, p := range c.Pods("app=hello") {
			if p.DeletionTimestamp == nil {
				left = append(left, p.Name)
			}
		}
		if len(left) != 1 {
			return fmt.Errorf("%d pods", len(left))
		}
		if left[0] != busy {
			t.Errorf("%s stays, and %s works", left[0], busy)
		}
		return nil
	})
	if err := <-answered; err != nil {
		t.Errorf("the long request: %v", err)
	}
}
