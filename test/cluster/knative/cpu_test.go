package knative

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/test/cluster/harness"
)

const (
	connections = 64
	perRound    = 20_000 // requests
	warmUp      = 2_000
	// tick is the unit of /proc/PID/stat, USER_HZ: 100 a second on every Linux that Go runs on.
	tick = 10 * time.Millisecond
	// allowed is what activator and queue-proxy together may cost, in parts of what Knative's do.
	allowed = 0.3
)

// processes are the programs whose time counts, by the kernel's name: 15 letters.
var processes = []string{"kn-activator", "kn-queue", "knativeactivato", "activator", "queueproxy"}

// steady is a revision that has one pod, and every request goes through an activator.
func steady(name string) revision {
	return revision{name: name, annotations: map[string]string{
		"autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "1", "autoscaling.knative.dev/target-burst-capacity": "-1",
	}}
}

// turn is one of two rivals: how to bring it up, and where to send to.
type turn struct {
	name   string
	begin  func()
	url    string
	header http.Header
}

// cpu compares what the two hops cost per request, by the kernel's accounts: Knative's pair and both of ours in its places.
func cpu(t *testing.T, in *installation) {
	r := steady("steady")
	in.deploy(r)
	var turns []turn
	for _, c := range []column{columns[0], columns[len(columns)-1]} {
		turns = append(turns, turn{c.name, func() {
			in.use(c)
			in.awaitQueue(r, c)
			in.awaitOnly("serving.knative.dev/revision="+r.String(), c.queue)
		}, in.url(r), in.header(r)})
	}
	in.compareCPU(t, turns)
}

// cpuBeside is the same for Rouse without Knative.
func cpuBeside(t *testing.T, in *installation) {
	theirs, ours := steady("steady"), steady("constant")
	in.deploy(theirs)
	in.deployPlain(ours)
	in.awaitOnly("app="+ours.name, "queueproxy")
	in.awaitActivator(in.URL(ours.name, 80), nil)
	in.compareCPU(t, []turn{
		{columns[0].name, func() {}, in.url(theirs), in.header(theirs)},
		{"plain Rouse", func() {}, in.URL(ours.name, 80), nil},
	})
}

// compareCPU lets the two take turns, the first one being what the second is measured by.
func (in *installation) compareCPU(t *testing.T, turns []turn) {
	t.Helper()
	rounds := long(3, 6)
	spent := make(map[string]time.Duration) // by process
	total := make(map[string]time.Duration) // by turn
	for range rounds {
		for _, c := range turns {
			c.begin()
			in.busy(c, warmUp)
			before := in.ticks()
			in.busy(c, perRound)
			for pid, now := range in.ticks() {
				d := now.spent - before[pid].spent
				spent[now.name] += d
				total[c.name] += d
			}
		}
	}
	n := time.Duration(rounds * perRound)
	for name, d := range spent {
		t.Logf("%s: %v a request, %d connections", name, d/n, connections)
	}
	theirs, ours := total[turns[0].name], total[turns[1].name]
	t.Logf("together: %s %v, %s %v a request: %.2f×", turns[0].name, theirs/n, turns[1].name, ours/n, float64(ours)/float64(theirs))
	if float64(ours) > allowed*float64(theirs) {
		t.Errorf("our two hops cost %v a request, Knative's %v; want at most %.1f×", ours/n, theirs/n, allowed)
	}
}

// awaitOnly waits until one pod is left, ready, with this queue-proxy.
func (in *installation) awaitOnly(selector, queue string) {
	in.t.Helper()
	in.Eventually(3*time.Minute, "one pod with "+queue, func() error {
		pods := in.Pods(selector)
		if len(pods) != 1 {
			return fmt.Errorf("%d pods", len(pods))
		}
		for _, container := range slices.Concat(pods[0].Spec.Containers, pods[0].Spec.InitContainers) {
			if container.Name == "queue-proxy" && !strings.Contains(container.Image, queue) {
				return fmt.Errorf("it has %s", container.Image)
			}
		}
		return harness.Ready(&pods[0])
	})
}

// busy sends n requests over so many connections as are kept, one after the other on each.
func (in *installation) busy(c turn, n int) {
	in.t.Helper()
	faults := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			conn := &harness.Conn{}
			defer conn.Close()
			for range n / connections {
				if resp, err := conn.Send(in.Context, http.MethodGet, c.url+"/ready", c.header, nil); err != nil || resp.Status != http.StatusOK {
					faults[i] = fmt.Errorf("status %d: %w", resp.Status, err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		in.t.Fatalf("%d requests: %v", n, err)
	}
}

// account is a process's time on processors so far.
type account struct {
	name  string
	spent time.Duration
}

// ticks reads the accounts of the programs that count, by process.
func (in *installation) ticks() map[string]account {
	in.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		in.t.Fatal(err)
	}
	all := make(map[string]account)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		name, rest, ok := strings.Cut(string(b), ") ")
		_, name, _ = strings.Cut(name, "(")
		if fields := strings.Fields(rest); ok && len(fields) > 13 && slices.Contains(processes, name) {
			user, err1 := strconv.ParseInt(fields[11], 10, 64)
			kernel, err2 := strconv.ParseInt(fields[12], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				in.t.Fatalf("%s: %v", file, err)
			}
			all[file] = account{name, time.Duration(user+kernel) * tick}
		}
	}
	return all
}
