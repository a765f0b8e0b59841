package front

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// TestThousandsOfSleepingRevisions costs memory in proportion, and no goroutine and no timer.
func TestThousandsOfSleepingRevisions(t *testing.T) {
	c := begin(t, "127.0.0.1:0")
	defer c.kill()
	c.tell(1, 0)
	a := launch(t, c, "a")
	goroutines, heap, rss := a.figure("go_goroutines"), a.figure("go_memstats_heap_inuse_bytes"), a.resident()
	const n = 5000
	for i := range n {
		id := identity.Revision{Namespace: "default", Name: fmt.Sprintf("s%04d-00001", i), UID: fmt.Sprint(i), Generation: 1}
		c.assign.PutRevision(assign.Revision{ID: id, Service: fmt.Sprintf("s%04d", i), Settings: assign.Settings{ContainerConcurrency: 1, QueueLimit: 100}})
		c.assign.SetRoutes(assign.Routes{Name: id.String(), Config: route.Config{
			Routes: route.Domains{}.Routes("default", fmt.Sprintf("s%04d", i), false, []route.Share{{Revision: id, Percent: 100}}),
		}})
	}
	last := identity.Revision{Namespace: "default", Name: fmt.Sprintf("s%04d-00001", n-1), UID: fmt.Sprint(n - 1), Generation: 1}
	p := newPod(t, "p", 0)
	c.assign.Endpoints(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: last, Version: 1, Endpoints: []endpoint.Endpoint{p.endpoint()}}})
	client := newClient(t)
	await(t, "the last one serves", a.out.String, func() bool {
		req, err := http.NewRequest(http.MethodGet, "http://"+a.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = fmt.Sprintf("s%04d.default.example.com", n-1)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if more := a.figure("go_goroutines") - goroutines; more > 20 {
		t.Errorf("%g more goroutines with %d revisions, want none for each", more, n)
	}
	per := float64(a.resident()-rss) / n
	t.Logf("%.1f KB of resident memory per sleeping revision, %d MB before", per/1024, rss>>20)
	// The race detector adds to what is resident, not to the heap.
	if inHeap := (a.figure("go_memstats_heap_inuse_bytes") - heap) / n; inHeap > 24<<10 {
		t.Errorf("%.1f KB of heap per sleeping revision, garbage included, want at most 24", inHeap/1024)
	}
}

// figure reads a metric without labels.
func (a *activatorProcess) figure(name string) float64 {
	res, err := http.Get("http://" + a.admin() + "/metrics") //nolint:noctx // the test ends with it
	if err != nil {
		a.t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+" ")
	v, err := strconv.ParseFloat(firstLine(rest), 64)
	if err != nil {
		a.t.Fatalf("%s: %v", name, err)
	}
	return v
}

// resident is the memory of the process, in bytes.
func (a *activatorProcess) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
