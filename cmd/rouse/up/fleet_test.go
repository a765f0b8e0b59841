package up

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/kafkadispatch/cli"
)

// version is a service whose answers name their version.
func version(name, target, traffic string) string {
	return fmt.Sprintf(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: %s, namespace: default}
spec:
  template:
    spec:
      containers:
        - image: hello
          env: [{name: TARGET, value: %s}]
%s`, name, target, traffic)
}

// apply changes the running services as `rouse apply` does.
func (h *house) apply(yaml string) ([]Change, error) {
	in, _, err := h.stack.fleet.planner.read([]manifest.Source{{Name: "test", Data: []byte(yaml)}})
	if err != nil {
		return nil, err
	}
	changes, err := h.stack.fleet.apply(in, false)
	if err != nil {
		return changes, err
	}
	return changes, h.stack.remote.record(in, changes)
}

// TestSwitchingRevisionsLosesNothing applies a new version under load: every answer is a complete 200, the last ones
// come from the new version, and the identical manifest makes no revision.
func TestSwitchingRevisionsLosesNothing(t *testing.T) {
	t.Parallel()
	h := start(t, version("shop", "one", ""), nil)
	defer h.close()
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	var mu sync.Mutex
	seen := map[string]int{}
	var clients sync.WaitGroup
	defer clients.Wait()
	defer end()
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, _, body, err := h.get("shop", "")
				if err != nil || status != http.StatusOK {
					t.Errorf("status %d, error %v, body %q; want 200", status, err, body)
					return
				}
				mu.Lock()
				seen[strings.Fields(body + " none none")[1]]++
				mu.Unlock()
			}
		})
	}
	count := func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[name]
	}
	h.await("the first version answers", func() bool { return count("one!") > 50 })
	if c, err := h.apply(version("shop", "one", "")); err != nil || c[0].What != "unchanged" {
		t.Errorf("apply of the same = %+v, %v; want unchanged", c, err)
	}
	if c, err := h.apply(version("shop", "two", "")); err != nil || c[0].What != "created" || c[0].Revision != "shop-00002" {
		t.Errorf("apply of a new version = %+v, %v; want shop-00002 created", c, err)
	}
	h.await("the second version answers", func() bool { return count("two!") > 50 })
	end()
	clients.Wait()
	if _, _, body, err := h.get("shop", ""); err != nil || !strings.Contains(body, "two!") {
		t.Errorf("after the switch: %q, %v; want the second version", body, err)
	}
}

// TestSplit holds 80/20 over many requests, with a tag's own host for the smaller one.
func TestSplit(t *testing.T) {
	t.Parallel()
	const n = 1000
	h := start(t, version("split", "one", ""), nil)
	defer h.close()
	if _, err := h.apply(version("split", "two", `  traffic:
    - {revisionName: split-00001, percent: 80}
    - {latestRevision: true, percent: 20, tag: candidate}
`)); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for range n {
		status, _, body, err := h.get("split", "")
		if err != nil || status != http.StatusOK {
			t.Fatalf("status %d, error %v", status, err)
		}
		counts[strings.Fields(body)[1]]++
	}
	if one := counts["one!"]; one < n*79/100 || one > n*81/100 {
		t.Errorf("answers %v, want 80 to 20 within 1 %%", counts)
	}
	if _, _, body, err := h.get("candidate-split", ""); err != nil || !strings.Contains(body, "two!") {
		t.Errorf("the tag's host answered %q, %v; want the second version", body, err)
	}
}

// TestHistory brings a revision that traffic names back after a restart.
func TestHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keep := func(o *Options) { o.Data = dir }
	h := start(t, version("past", "one", ""), keep)
	if _, err := h.apply(version("past", "two", "")); err != nil {
		t.Fatal(err)
	}
	h.close()
	h = start(t, version("past", "two", "  traffic: [{revisionName: past-00001, percent: 100}]\n"), keep)
	defer h.close()
	if _, _, body, err := h.get("past", ""); err != nil || !strings.Contains(body, "one!") {
		t.Errorf("after the restart: %q, %v; want the first version, which the traffic names", body, err)
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	h := start(t, version("fixed", "one", ""), nil)
	defer h.close()
	for _, c := range []struct{ name, yaml, want string }{
		{"an unknown revision", version("fixed", "one", "  traffic: [{revisionName: fixed-00009, percent: 100}]\n"), "fixed-00009"},
		{"a bad number", strings.Replace(version("fixed", "one", ""), "spec:\n      containers", "spec:\n      containerConcurrency: -3\n      containers", 1), "containerConcurrency"},
	} {
		if _, err := h.apply(c.yaml); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that names %s", c.name, err, c.want)
		}
	}
	if status, _, body, err := h.get("fixed", ""); err != nil || status != 200 || !strings.Contains(body, "one!") {
		t.Errorf("after refused changes: %d %q %v, want the version that ran", status, body, err)
	}
}

// TestLiveSettingsNeedNoRevision raises min-scale of a running revision: its process stays, and others come.
func TestLiveSettingsNeedNoRevision(t *testing.T) {
	t.Parallel()
	h := start(t, version("live", "one", ""), nil)
	defer h.close()
	_, before, _, err := h.get("live", "")
	if err != nil {
		t.Fatal(err)
	}
	annotated := strings.Replace(version("live", "one", ""), "  template:\n",
		"  template:\n    metadata: {annotations: {autoscaling.knative.dev/min-scale: \"3\"}}\n", 1)
	if c, err := h.apply(annotated); err != nil || c[0].What != "configured" || c[0].Revision != "live-00001" {
		t.Errorf("apply = %+v, %v; want live-00001 configured", c, err)
	}
	h.await("three processes run", func() bool { ready, _ := h.pods("live"); return ready == 3 })
	pids := map[string]bool{}
	h.await("the first process is among them", func() bool {
		_, header, _, err := h.get("live", "")
		if err != nil {
			t.Fatal(err)
		}
		pids[header.Get("X-Pid")] = true
		return pids[before.Get("X-Pid")]
	})
}

// TestKafkaSourceWakesItsSink writes a record to the embedded broker: a process that did not exist gets the event.
func TestKafkaSourceWakesItsSink(t *testing.T) {
	t.Parallel()
	h := start(t, `
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: display}
spec:
  template:
    spec:
      containers: [{image: event-display}]
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata: {name: orders}
spec:
  bootstrapServers: [embedded]
  consumerGroup: display
  topics: [orders]
  initialOffset: earliest
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: display}}
---
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata: {name: wrong}
spec:
  bootstrapServers: [embedded]
  topics: [orders]
  delivery: {backoffDelay: soon}
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: display}}
`, func(o *Options) { o.Verbose = true })
	defer h.close()
	broker := strings.Join(h.stack.sources.Embedded(), ",")
	if err := cli.Produce(t.Context(), []string{"-bootstrap", broker, "orders"}, strings.NewReader("first\nsecond\n"), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	h.await("both records arrived", func() bool {
		out := h.out.String()
		return strings.Contains(out, "  first") && strings.Contains(out, "  second")
	})
	if out := h.out.String(); !strings.Contains(out, "display: waking, 0→1") || !strings.Contains(out, "backoffDelay") {
		t.Errorf("the sink was not woken, or the wrong source not named:\n%s", out)
	}
}
