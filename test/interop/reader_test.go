package interop

import (
	"context"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	netcfg "knative.dev/networking/pkg/config"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/resources"
)

// knativesScraper is Knative's, over pods that are ready for an hour, as its informer would know them.
func knativesScraper(t *testing.T, pods ...*pod) asmetrics.StatsScraper {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	started := metav1.NewTime(time.Now().Add(-time.Hour))
	labels := map[string]string{serving.RevisionLabelKey: revision.Name, serving.ConfigurationLabelKey: "hello", serving.ServiceLabelKey: "hello"}
	for _, p := range pods {
		err := indexer.Add(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: revision.Namespace, Name: p.uid, Labels: labels},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &started, PodIP: p.addr.Addr().String(),
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	m := &autoscalingv1alpha1.Metric{
		ObjectMeta: metav1.ObjectMeta{Namespace: revision.Namespace, Name: revision.Name, Labels: labels},
		Spec:       autoscalingv1alpha1.MetricSpec{StableWindow: time.Minute, PanicWindow: 6 * time.Second, ScrapeTarget: revision.Name},
	}
	accessor := resources.NewPodAccessor(corev1listers.NewPodLister(indexer), revision.Namespace, revision.Name)
	return asmetrics.NewStatsScraper(m, revision.Name, accessor, false, netcfg.MeshCompatibilityModeDisabled, zap.NewNop().Sugar())
}

func near(got, want float64) bool { return math.Abs(got-want) < 0.01 }

// TestKnativeScrapesOurs: three of our pods with constant loads of five, three and none, two of them proxied, read by the
// scraper of Knative's autoscaler. Concurrency that does not change is exact in every full period.
func TestKnativeScrapesOurs(t *testing.T) {
	var pods []*pod
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		p := startRouse(t, startApplication(t), 0, ip)
		p.ready()
		pods = append(pods, p)
	}
	scraper := knativesScraper(t, pods...)
	ends := []func(){
		hold(t, pods[0].app, 3, "http://"+pods[0].addr.String()),
		hold(t, pods[0].app, 2, "http://"+pods[0].addr.String(), "K-Proxy-Request", "activator"),
		hold(t, pods[1].app, 3, "http://"+pods[1].addr.String()),
	}
	scrape := func() asmetrics.Stat {
		st, err := scraper.Scrape(time.Minute)
		if err != nil {
			t.Fatalf("Knative's scraper: %v", err)
		}
		return st
	}
	until(t, "a full period of 8 requests", func() bool { return near(scrape().AverageConcurrentRequests, 8) })
	for range 3 {
		st := scrape()
		if !near(st.AverageConcurrentRequests, 8) || !near(st.AverageProxiedConcurrentRequests, 2) {
			t.Errorf("Knative read %g requests at once, %g of them proxied; want 8 and 2", st.AverageConcurrentRequests, st.AverageProxiedConcurrentRequests)
		}
	}
	until(t, "a period without arrivals", func() bool { st := scrape(); return st.RequestCount == 0 && st.ProxiedRequestCount == 0 })
	for _, end := range ends {
		end()
	}
	until(t, "a period without requests", func() bool { return scrape().AverageConcurrentRequests == 0 })
}

// periods reads a pod's reports with Knative's decoder, each period once, until ctx ends.
func periods(ctx context.Context, t *testing.T, p *pod) (sum asmetrics.Stat) {
	client := newClient(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			return sum
		case <-tick.C:
		}
		resp, err := client.Get("http://" + p.addr.Addr().String() + ":9090/metrics")
		if err != nil {
			t.Error(err)
			return sum
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var st asmetrics.Stat
		if err == nil {
			err = st.Unmarshal(body)
		}
		if err != nil {
			t.Error(err)
			return sum
		}
		if st.Timestamp != last {
			last = st.Timestamp
			sum.RequestCount += st.RequestCount
			sum.ProxiedRequestCount += st.ProxiedRequestCount
		}
	}
}

// TestKnativeCountsOurRequests: 400 requests over several periods, half of them proxied. The periods' counts, as Knative
// decodes them, add up to what was sent; a count is per second of a period, which is a second long within a hundredth.
func TestKnativeCountsOurRequests(t *testing.T) {
	p := startRouse(t, startApplication(t), 0, "127.0.0.2")
	p.ready()
	ctx, cancel := context.WithCancel(t.Context())
	sums := make(chan asmetrics.Stat, 1)
	go func() { sums <- periods(ctx, t, p) }()
	client, url := newClient(t), "http://"+p.addr.String()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		<-tick.C
		wantAll(t, []outcome{ask(t.Context(), client, url), ask(t.Context(), client, url, "K-Proxy-Request", "activator")}, 200)
	}
	scraper := knativesScraper(t, p)
	until(t, "a period without arrivals", func() bool { st, err := scraper.Scrape(time.Minute); return err == nil && st.RequestCount == 0 })
	cancel()
	sum := <-sums
	if math.Abs(sum.RequestCount-400) > 8 || math.Abs(sum.ProxiedRequestCount-200) > 4 {
		t.Errorf("the periods add up to %g requests, %g of them proxied; want 400 and 200 within 2 %%", sum.RequestCount, sum.ProxiedRequestCount)
	}
}

// TestKnativeReadsTheLongestName: Knative's reader takes 336 bytes and no more. What our report carries beyond Knative's
// fields must fit beside the longest name that a pod can have.
func TestKnativeReadsTheLongestName(t *testing.T) {
	name := strings.Repeat("a", 253)
	p := startRouse(t, startApplication(t), 0, "127.0.0.2", "SERVING_POD="+name, "ROUSE_REVISION_UID=0d0c36f4-6f51-4a3e-9a58-5f1b3f5ad1d2")
	p.ready()
	scraper := knativesScraper(t, p)
	end := hold(t, p.app, 1, "http://"+p.addr.String())
	until(t, "a full period of one request", func() bool {
		st, err := scraper.Scrape(time.Minute)
		if err != nil {
			t.Fatalf("Knative's scraper: %v", err)
		}
		return near(st.AverageConcurrentRequests, 1)
	})
	end()
	resp, err := http.Get("http://127.0.0.2:9090/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var st asmetrics.Stat
	if err == nil {
		err = st.Unmarshal(body)
	}
	if err != nil || st.PodName != name || len(body) > 336 {
		t.Errorf("%d bytes about %q, %v; want the name in at most 336", len(body), st.PodName, err)
	}
}
