package queueproxy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

func newTelemetry(t *testing.T, p *Proxy) (*Telemetry, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	tel, err := NewTelemetry(reg, Labels{"default", "hello", "hello", "hello-00001", "pod-a"}, p)
	if err != nil {
		t.Fatal(err)
	}
	return tel, reg
}

// documented reads the table below a heading of docs/metrics.md: name, type, labels.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/metrics.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for l := range strings.Lines(section) {
		cells := strings.Split(l, "|")
		if len(cells) < 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		clean := func(i int) string { return strings.TrimSpace(strings.ReplaceAll(cells[i], "`", "")) }
		labels := strings.Fields(strings.ReplaceAll(clean(3), ",", " "))
		slices.Sort(labels)
		rows = append(rows, fmt.Sprint(clean(1), " ", clean(2), " ", labels))
	}
	slices.Sort(rows)
	return rows
}

// TestMetricsAreDocumented registers everything, lets each metric have a value, and compares names, types and labels
// with docs/metrics.md.
func TestMetricsAreDocumented(t *testing.T) {
	p := newProxy(t, 1, 0, nil)
	tel, reg := newTelemetry(t, p)
	tel.Done(forward.Result{Status: 200}, nil, time.Millisecond, time.Millisecond)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	constant := newLabels(Labels{}.constant())
	var got []string
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			if !constant[l.GetName()] {
				labels = append(labels, l.GetName())
			}
		}
		slices.Sort(labels)
		got = append(got, fmt.Sprint(f.GetName(), " ", strings.ToLower(f.GetType().String()), " ", labels))
	}
	slices.Sort(got)
	if diff := cmp.Diff(documented(t, "Queue-proxy"), got); diff != "" {
		t.Errorf("docs/metrics.md and the registry differ (-documented +registered):\n%s", diff)
	}
}

func newLabels(l prometheus.Labels) map[string]bool {
	m := make(map[string]bool)
	for name := range l {
		m[name] = true
	}
	return m
}

func TestQueueDepthIsAbsentWithoutALimit(t *testing.T) {
	for limit, want := range map[int]int{0: 0, 3: 1} {
		_, reg := newTelemetry(t, newProxy(t, limit, 0, nil))
		if n, err := testutil.GatherAndCount(reg, "revision_queue_depth"); err != nil || n != want {
			t.Errorf("limit %d: %d series of revision_queue_depth, %v; want %d", limit, n, err, want)
		}
	}
}

func TestRouteTag(t *testing.T) {
	for _, c := range []struct {
		tag, byDefault, want string
	}{
		{"", "", "DISABLED"}, {"", "true", "DEFAULT"}, {"", "false", "DEFAULT"},
		{"canary", "", "canary"}, {"canary", "false", "canary"}, {"gone", "true", "UNDEFINED"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProxy(t, 0, 0, nil)
			tel, _ := newTelemetry(t, p)
			p.Observe(tel)
			x := forwardtest.New("hello")
			if c.tag != "" {
				x.Headers["knative-serving-tag"] = c.tag
			}
			if c.byDefault != "" {
				x.Headers["knative-serving-default-route"] = c.byDefault
			}
			p.ServeExchange(x)
			if got := testutil.ToFloat64(tel.requests.WithLabelValues("200", "2xx", c.want)); got != 1 {
				t.Errorf("tag %q, default route %q: %v requests under %s, want 1", c.tag, c.byDefault, got, c.want)
			}
		})
	}
}

// TestTagsAreBounded: whoever sends a thousand tags gets 64 of them, and one for the rest.
func TestTagsAreBounded(t *testing.T) {
	tel, _ := newTelemetry(t, newProxy(t, 0, 0, nil))
	for i := range 1000 {
		tel.Done(forward.Result{Status: 200}, fmt.Appendf(nil, "tag-%d", i), time.Millisecond, 0)
	}
	if n := testutil.CollectAndCount(tel.requests); n != maxTags+1 {
		t.Errorf("%d series, want %d", n, maxTags+1)
	}
	if got := testutil.ToFloat64(tel.requests.WithLabelValues("200", "2xx", tagOther)); got != 1000-maxTags {
		t.Errorf("%v requests under %s, want %d", got, tagOther, 1000-maxTags)
	}
}

// TestTagsThatAreNone: whatever somebody sends as a tag, the request is counted, and nothing else happens.
func TestTagsThatAreNone(t *testing.T) {
	tel, _ := newTelemetry(t, newProxy(t, 0, 0, nil))
	for _, tag := range []string{"\xff", "canary\xc3", strings.Repeat("a", maxTag+1)} {
		tel.Done(forward.Result{Status: 200}, []byte(tag), time.Millisecond, 0)
	}
	if got := testutil.ToFloat64(tel.requests.WithLabelValues("200", "2xx", tagOther)); got != 3 {
		t.Errorf("%v requests under %s, want 3", got, tagOther)
	}
}

// TestCountingAllocatesNothing in steady state, with and without tags.
func TestCountingAllocatesNothing(t *testing.T) {
	tel, _ := newTelemetry(t, newProxy(t, 0, 0, nil))
	for _, tag := range [][]byte{nil, []byte("canary")} {
		one := func() { tel.Done(forward.Result{Status: 200}, tag, time.Millisecond, time.Millisecond) }
		one()
		if n := testing.AllocsPerRun(100, one); n != 0 {
			t.Errorf("tag %q: %v allocations per request, want 0", tag, n)
		}
	}
}
