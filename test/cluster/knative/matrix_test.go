package knative

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestKnative installs Knative once: the matrix, then figures of ours beside its own.
func TestKnative(t *testing.T) {
	in := install(t)
	t.Run("matrix", func(t *testing.T) { matrix(t, in) })
	t.Run("CPU per request", func(t *testing.T) { cpu(t, in.on(t)) })
	t.Run("cold starts", func(t *testing.T) { coldStarts(t, in.on(t)) })
	t.Run("readiness", func(t *testing.T) { readiness(t, in) })
}

// matrix takes each column through the same cases. What Knative's own pair does not pass is said, and ours must do no worse.
func matrix(t *testing.T, in *installation) {
	base := &baseline{}
	for i, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			base.filling = i == 0
			in.on(t).use(c)
			t.Run("quiet", func(t *testing.T) {
				for _, one := range []struct {
					name string
					run  func(*installation)
				}{
					{"from zero and back", fromZeroAndBack}, {"limit 1", limitOne}, {"h2c", h2c}, {"time-out", timeOut},
					{"probes", probes}, {"load is seen", base.loadIsSeen},
				} {
					t.Run(one.name, func(t *testing.T) {
						t.Parallel()
						one.run(in.on(t))
					})
				}
			})
			t.Run("pods deleted", func(t *testing.T) { base.podsDeleted(in.on(t)) })
			t.Run("activators rolled", func(t *testing.T) { base.activatorsRolled(in.on(t)) })
		})
	}
}

// fromZeroAndBack: a Service gets ready, sleeps, answers its first request, and sleeps again.
func fromZeroAndBack(in *installation) {
	r := revision{name: "hello"}
	in.deploy(r)
	for range 2 {
		in.awaitZero(r)
		in.must(r, "/", http.StatusOK)
	}
	in.awaitZero(r)
}

// limitOne: 50 at once from zero, through each of two activators, and no application ever has two.
func limitOne(in *installation) {
	r := revision{name: "one", concurrency: 1, annotations: map[string]string{"autoscaling.knative.dev/max-scale": "10"}}
	in.deploy(r)
	in.awaitZero(r)
	through := in.activators()
	if len(through) != activators {
		in.t.Fatalf("activators at %v, want %d", through, activators)
	}
	in.together(r, through, 50, "/sleep?for=30ms")
	in.together(r, through, 50, "/sleep?for=30ms") // some pods are up: both activators share them
}

// together sends n requests at once, in turn through each of these addresses. All must be answered with 200, alone in their application.
func (in *installation) together(r revision, through []string, n int, path string) {
	in.t.Helper()
	faults := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			resp, err := in.ask(r, through[i%len(through)], path)
			if together := resp.Header.Get("Rouse-Test-In-Flight"); err == nil && (resp.Status != http.StatusOK || together != "1") {
				err = fmt.Errorf("status %d %q, %q in the application", resp.Status, resp.Body, together)
			}
			faults[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		in.t.Errorf("%d at once: %v", n, err)
	}
}

// h2c: HTTP/2 in clear text from end to end, from zero.
func h2c(in *installation) {
	r := revision{name: "h2", port: "h2c"}
	in.deploy(r)
	in.awaitZero(r)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(in.Context, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.url(r)+"/", nil)
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header = in.header(r)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Rouse-Test-Proto"); resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || got != "HTTP/2.0" {
		in.t.Fatalf("status %d by %s, the application saw %q; want 200 by HTTP/2.0 on both sides", resp.StatusCode, resp.Proto, got)
	}
}

// timeOut: a request that lasts longer than timeoutSeconds ends with 504, and a shorter one doesn't.
func timeOut(in *installation) {
	r := revision{name: "slow", timeout: 2}
	in.deploy(r)
	in.must(r, "/sleep?for=20ms", http.StatusOK)
	in.must(r, "/sleep?for=50s", http.StatusGatewayTimeout)
}

// probes: Knative's controller hands the user's readiness probe to the queue-proxy, which asks in kubelet's place.
func probes(in *installation) {
	all := []revision{
		{name: "http", probe: `{httpGet: {path: /ready}, periodSeconds: 1, failureThreshold: 1}`},
		{name: "tcp", probe: `{tcpSocket: {port: 8080}, periodSeconds: 1}`},
		{name: "exec", probe: `{exec: {command: [/bin/true]}, periodSeconds: 1}`},
		{name: "grpc", port: "h2c", args: []string{"-listen", "", "-grpc", ":8080"}, probe: `{grpc: {port: 8080}, periodSeconds: 1}`},
	}
	for i := range all {
		all[i].annotations = map[string]string{"autoscaling.knative.dev/min-scale": "1"}
		in.Apply(all[i].manifest())
	}
	for _, r := range all {
		in.deploy(r)
	}
	pod := in.pods(all[0])[0]
	for _, ready := range []string{"0", "1"} {
		if r := in.Get("http://" + pod.Status.PodIP + ":8080/set?ready=" + ready); r.Status != http.StatusOK {
			in.t.Fatalf("set ready=%s: %d", ready, r.Status)
		}
		in.WaitPod(pod.Name, "ready="+ready, soon, func(p *corev1.Pod) error {
			if err := harness.Ready(p); (err == nil) != (ready == "1") {
				return fmt.Errorf("ready %t: %w", err == nil, err)
			}
			return nil
		})
	}
}

// baseline is what Knative's own pair did; the first column fills it.
type baseline struct {
	filling bool // the column that runs is the first one

	mu     sync.Mutex
	pods   int            // guarded by mu; at the end of loadIsSeen
	failed map[string]int // guarded by mu; requests, by kind of disturbance
}

// loadIsSeen: 20 clients of a revision for 10 a pod, 70 % of which is the target: the autoscaler comes to the same number of pods.
func (b *baseline) loadIsSeen(in *installation) {
	const clients, settle, watch = 20, 20 * time.Second, 8 * time.Second
	r := revision{name: "load", annotations: map[string]string{"autoscaling.knative.dev/target": "10"}}
	in.deploy(r)
	ctx, stop := context.WithCancel(in.Context)
	defer stop()
	var all sync.WaitGroup
	faults := make([]error, clients)
	url := in.url(r)
	for i := range clients {
		all.Go(func() { faults[i] = in.keepBusy(ctx, r, url) })
	}
	lasting(in.Context, settle)
	var seen []int
	in.Never(watch, "Deployment is readable", func() error {
		d, err := in.Client.AppsV1().Deployments(in.Namespace).Get(in.Context, r.String()+"-deployment", metaGet)
		if err == nil {
			seen = append(seen, int(*d.Spec.Replicas))
		}
		return err
	})
	stop()
	all.Wait()
	slices.Sort(seen)
	b.comparePods(in, seen[len(seen)/2], errors.Join(faults...))
}

func (b *baseline) comparePods(in *installation, pods int, fault error) {
	in.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filling || b.pods == 0 {
		b.pods = pods
	}
	in.t.Logf("pods under load: %d, Knative's pair: %d", pods, b.pods)
	if fault != nil || pods < b.pods-1 || pods > b.pods+1 || pods < 2 {
		in.t.Errorf("%d pods, want %d ± 1 and more than one; failed: %v", pods, b.pods, fault)
	}
}

// keepBusy is a client with one request under way at any time.
func (in *installation) keepBusy(ctx context.Context, r revision, url string) error {
	conn := &harness.Conn{}
	defer conn.Close()
	for ctx.Err() == nil {
		resp, err := conn.Send(context.WithoutCancel(ctx), http.MethodGet, url+"/sleep?for=300ms", in.header(r), nil)
		if err != nil || resp.Status != http.StatusOK {
			return fmt.Errorf("status %s: %w", strconv.Itoa(resp.Status), err)
		}
	}
	return nil
}

// lasting returns when d is over or ctx is done.
func lasting(ctx context.Context, d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
	}
}
