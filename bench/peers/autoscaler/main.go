package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	netcfg "knative.dev/networking/pkg/config"
	"knative.dev/serving/pkg/apis/autoscaling"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	"knative.dev/serving/pkg/resources"
)

const (
	stableWindow = time.Minute
	panicWindow  = 6 * time.Second
	tick         = 2 * time.Second // Knative's, not exported there
)

// result has the field names of bench/controlbench.
type result struct {
	Contender string  `json:"contender"`
	Revisions int     `json:"revisions"`
	Pods      int     `json:"pods"`
	Seconds   float64 `json:"seconds"`
	CoreShare float64 `json:"coreShare"`
	Reports   float64 `json:"reportsPerSecond"`
	Decisions float64 `json:"decisionsPerSecond"`
	LagP50Ms  float64 `json:"lagP50Ms"`
	LagP99Ms  float64 `json:"lagP99Ms"`
	LagMaxMs  float64 `json:"lagMaxMs"`
	Bytes     float64 `json:"bytesPerRevision"`
	Total     float64 `json:"bytesPerRevisionTotal"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	revisions, pods  int
	warmup, duration time.Duration
	scrape           string
	serve            bool
}

func run() error {
	var o options
	flag.IntVar(&o.revisions, "revisions", 10_000, "how many revisions")
	flag.IntVar(&o.pods, "pods", 3, "pods per revision")
	flag.DurationVar(&o.warmup, "warmup", 10*time.Second, "how long to run before measuring")
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "how long to measure")
	flag.StringVar(&o.scrape, "scrape", "memory", "memory or http")
	flag.BoolVar(&o.serve, "serve", false, "internal: play the pods")
	flag.Parse()
	if o.serve {
		return servePods()
	}
	if o.scrape == "http" {
		stop, err := startPods()
		if err != nil {
			return err
		}
		defer stop()
	}
	res, err := measure(o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

func load(revision int, t time.Time) float64 {
	phase := float64(revision%60) / 60
	return 60 + 30*math.Sin(2*math.Pi*(float64(t.UnixMilli()%60_000)/60_000+phase))
}

// servePods answers every scrape with one pod's report.
func servePods() error {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		v := load(len(r.Host), now)
		s := asmetrics.Stat{PodName: r.Host, AverageConcurrentRequests: v, RequestCount: v * 10, ProcessUptime: 100, Timestamp: now.Unix()}
		raw, err := s.Marshal()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/protobuf")
		_, _ = w.Write(raw)
	})
	srv := &http.Server{Addr: ":9090", Handler: h, ReadHeaderTimeout: 10 * time.Second}
	return srv.ListenAndServe()
}

func startPods() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-serve")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		resp, err := http.Get("http://127.0.0.1:9090/metrics")
		if err == nil {
			resp.Body.Close()
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, errors.New("nothing answers on port 9090: is it taken?")
}

// memory is a scraper that has the reports at hand.
type memory struct {
	revision, pods int
	scraped        *atomic.Uint64
}

func (m *memory) Scrape(time.Duration) (asmetrics.Stat, error) {
	m.scraped.Add(uint64(m.pods))
	v := load(m.revision, time.Now()) * float64(m.pods)
	return asmetrics.Stat{PodName: "service-scraper", AverageConcurrentRequests: v, RequestCount: 10 * v}, nil
}

// counted counts what a real scraper fetched.
type counted struct {
	asmetrics.StatsScraper
	pods    int
	scraped *atomic.Uint64
}

func (c *counted) Scrape(w time.Duration) (asmetrics.Stat, error) {
	s, err := c.StatsScraper.Scrape(w)
	if err == nil {
		c.scraped.Add(uint64(c.pods))
	}
	return s, err
}

// timed notes how late each decision is behind the ticker that asked for it.
type timed struct {
	scaling.UniScaler
	born time.Time
	lags *lags
}

func (t *timed) Scale(l *zap.SugaredLogger, now time.Time) scaling.ScaleResult {
	t.lags.add(now.Sub(t.born) % tick)
	return t.UniScaler.Scale(l, now)
}

type lags struct {
	mu  sync.Mutex
	on  bool
	all []time.Duration
}

func (l *lags) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		l.all = append(l.all, d)
	}
}

func (l *lags) switchTo(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = on
}

func name(i int) (namespace, revision string) {
	return fmt.Sprintf("bench-%05d", i), fmt.Sprintf("rev-%05d", i)
}

// podLister holds ready pods, a minute old and more, each at a loopback address of its own.
func podLister(o options) (corev1listers.PodLister, error) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	started := metav1.NewTime(time.Now().Add(-time.Hour))
	for n := range o.revisions * o.pods {
		ns, rev := name(n / o.pods)
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("%s-%d", rev, n%o.pods), Labels: map[string]string{serving.RevisionLabelKey: rev}},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, StartTime: &started, PodIP: fmt.Sprintf("127.%d.%d.%d", 1+n>>16, n>>8&255, n&255),
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			},
		}
		if err := indexer.Add(pod); err != nil {
			return nil, err
		}
	}
	return corev1listers.NewPodLister(indexer), nil
}

func measure(o options) (result, error) {
	log := zap.NewNop().Sugar()
	pods, err := podLister(o)
	if err != nil {
		return result{}, err
	}
	var scraped atomic.Uint64
	index := make(map[string]int, o.revisions)
	for i := range o.revisions {
		_, rev := name(i)
		index[rev] = i
	}
	empty := heap()
	factory := func(m *autoscalingv1alpha1.Metric, l *zap.SugaredLogger) (asmetrics.StatsScraper, error) {
		if o.scrape != "http" {
			return &memory{index[m.Name], o.pods, &scraped}, nil
		}
		accessor := resources.NewPodAccessor(pods, m.Namespace, m.Name)
		return &counted{asmetrics.NewStatsScraper(m, m.Name, accessor, false, netcfg.MeshCompatibilityModeAuto, l), o.pods, &scraped}, nil
	}
	collector := asmetrics.NewMetricCollector(factory, log)
	late := &lags{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	multi := scaling.NewMultiScaler(ctx.Done(), func(d *scaling.Decider) (scaling.UniScaler, error) {
		accessor := resources.NewPodAccessor(pods, d.Namespace, d.Name)
		u := scaling.New(ctx, d.Namespace, d.Name, collector, accessor, &d.Spec)
		return &timed{u, time.Now(), late}, nil
	}, log)
	multi.Watch(func(types.NamespacedName) {})
	if err := populate(ctx, o, collector, multi); err != nil {
		return result{}, err
	}
	time.Sleep(max(o.warmup, 2*tick))
	used := heap() - empty
	res := sample(o, late, &scraped)
	res.Bytes, res.Total = float64(used)/float64(o.revisions), float64(used)/float64(o.revisions)
	for i := range o.revisions {
		collector.Delete(name(i))
	}
	return res, nil
}

// populate creates the revisions evenly over a tick, as time would spread them.
func populate(ctx context.Context, o options, collector *asmetrics.MetricCollector, multi *scaling.MultiScaler) error {
	began := time.Now()
	for i := range o.revisions {
		ns, rev := name(i)
		meta := metav1.ObjectMeta{Namespace: ns, Name: rev, Labels: map[string]string{serving.RevisionLabelKey: rev, serving.ConfigurationLabelKey: rev, serving.ServiceLabelKey: rev}}
		m := &autoscalingv1alpha1.Metric{ObjectMeta: meta, Spec: autoscalingv1alpha1.MetricSpec{StableWindow: stableWindow, PanicWindow: panicWindow, ScrapeTarget: rev}}
		if err := collector.CreateOrUpdate(m); err != nil {
			return err
		}
		d := &scaling.Decider{ObjectMeta: meta, Spec: scaling.DeciderSpec{
			MaxScaleUpRate: 1000, MaxScaleDownRate: 2, ScalingMetric: autoscaling.Concurrency, TargetValue: 70, TotalValue: 100,
			TargetBurstCapacity: 211, ActivatorCapacity: 100, PanicThreshold: 2, StableWindow: stableWindow, InitialScale: 1, Reachable: true,
		}}
		if _, err := multi.Create(ctx, d); err != nil {
			return err
		}
		due := began.Add(tick * time.Duration(i) / time.Duration(o.revisions))
		time.Sleep(time.Until(due))
	}
	return nil
}

func sample(o options, late *lags, scraped *atomic.Uint64) result {
	before, cpu, at := scraped.Load(), cpuTime(), time.Now()
	late.switchTo(true)
	time.Sleep(o.duration)
	seconds := time.Since(at).Seconds()
	used := (cpuTime() - cpu).Seconds()
	late.switchTo(false)
	sort.Slice(late.all, func(i, j int) bool { return late.all[i] < late.all[j] })
	at99 := func(q float64) float64 {
		if len(late.all) == 0 {
			return 0
		}
		return float64(late.all[int(q*float64(len(late.all)-1))].Microseconds()) / 1000
	}
	return result{
		Contender: "knative (scrape " + o.scrape + ")", Revisions: o.revisions, Pods: o.pods, Seconds: seconds, CoreShare: used / seconds,
		Reports: float64(scraped.Load()-before) / seconds, Decisions: float64(len(late.all)) / seconds,
		LagP50Ms: at99(0.5), LagP99Ms: at99(0.99), LagMaxMs: at99(1),
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is what the program holds, stacks included: Knative's two goroutines per revision are part of its price.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
