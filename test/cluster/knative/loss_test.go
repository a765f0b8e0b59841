package knative

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

var metaGet = metav1.GetOptions{}

// long returns the measure of the tests' full form, or of the one in which they are tried.
func long[T any](short, full T) T {
	if harness.Full() {
		return full
	}
	return short
}

// span is how long each disturbance goes on.
func span() time.Duration { return long(15*time.Second, time.Minute) }

// podsDeleted: pods go one by one, gracefully, with all requests through activators and then with none.
func (b *baseline) podsDeleted(in *installation) {
	for _, by := range []struct{ name, path, burst, mode string }{
		{"behind", "through activators", "-1", "Proxy"}, {"direct", "past activators", "0", "Serve"},
	} {
		r := revision{name: by.name, annotations: map[string]string{
			"autoscaling.knative.dev/min-scale": "3", "autoscaling.knative.dev/target-burst-capacity": by.burst,
		}}
		in.deploy(r)
		in.Eventually(soon, "the way is "+by.path, func() error { return in.inMode(r, by.mode) })
		b.underLoad(in, "pods deleted, "+by.path, r, func() {
			for end := time.Now().Add(span()); time.Now().Before(end); {
				victim := in.pods(r)[0].Name
				if err := in.Client.CoreV1().Pods(in.Namespace).Delete(in.Context, victim, metav1.DeleteOptions{}); err != nil {
					in.t.Error(err)
				}
				lasting(in.Context, 2*time.Second)
				in.WaitDeployment(r.String()+"-deployment", 3)
			}
		})
	}
}

// activatorsRolled: both activators are replaced while they are in the path.
func (b *baseline) activatorsRolled(in *installation) {
	r := revision{name: "rolled", annotations: map[string]string{
		"autoscaling.knative.dev/min-scale": "2", "autoscaling.knative.dev/target-burst-capacity": "-1",
	}}
	in.deploy(r)
	b.underLoad(in, "activators rolled", r, func() {
		patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"rolled":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
		if _, err := in.Client.AppsV1().Deployments(system).Patch(in.Context, "activator", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			in.t.Error(err)
		}
		in.rolledOut("activator")
		lasting(in.Context, span())
	})
}

// underLoad sends 200 requests a second, none of them twice, by clients that keep connections and clients that don't, GET and POST, while
// disturb runs. Nothing may be lost, or no more than Knative's own pair lost, and no application may see a request twice.
func (b *baseline) underLoad(in *installation, kind string, r revision, disturb func()) {
	in.t.Helper()
	ctx, stop := context.WithCancel(in.Context)
	defer stop()
	follow, unfollow := context.WithCancel(in.Context)
	defer unfollow()
	applications := in.read(follow, r)
	var all sync.WaitGroup
	var reports [4]*harness.Report
	url := in.url(r) + "/sleep?for=20ms"
	for i, l := range []harness.Load{
		{Method: http.MethodGet, KeepAlive: true}, {Method: http.MethodPost, KeepAlive: true, Body: []byte("body")},
		{Method: http.MethodGet}, {Method: http.MethodPost, Body: []byte("body")},
	} {
		l.URL, l.Rate, l.Header, l.Prefix = url, 50, in.header(r), fmt.Sprintf("%s/%d/%d", r, i, time.Now().UnixNano())
		all.Go(func() { reports[i] = l.Run(ctx) })
	}
	disturb()
	stop()
	all.Wait()
	answered := b.compareFailures(in, kind, reports[:])
	if seen, again := applications.twice(unfollow); seen < answered || len(again) > 0 {
		in.t.Errorf("%s: applications saw %d requests of %d that were answered; twice: %v", kind, seen, answered, again)
	}
}

// compareFailures returns how many requests were answered.
func (b *baseline) compareFailures(in *installation, kind string, reports []*harness.Report) (answered int) {
	in.t.Helper()
	sent, failed := 0, 0
	for _, r := range reports {
		sent += r.Sent
		failed += len(r.Failures)
		for _, f := range r.Failures[:min(3, len(r.Failures))] {
			in.t.Logf("%s: %v", kind, f)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = make(map[string]int)
	}
	if b.filling {
		b.failed[kind] = failed
	}
	allowed := b.failed[kind] // 0 when the first column did not run
	in.t.Logf("%s: %d of %d failed, of Knative's pair %d", kind, failed, sent, allowed)
	if failed > allowed || sent == 0 {
		in.t.Errorf("%s: %d of %d failed, want at most what Knative's own pair loses: %d", kind, failed, sent, allowed)
	}
	return sent - failed
}
