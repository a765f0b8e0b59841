package knative

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// rouseSystem is where `rouse install` puts everything.
const rouseSystem = "rouse-system"

// installRouse brings Rouse up beside Knative, as docs/inject.md says, with the same windows. What is printed has no replicas of activators: their
// HorizontalPodAutoscaler has, and it raises them without a metrics server too.
func (in *installation) installRouse() {
	in.t.Helper()
	manifests := in.rouse("", "install", "--image-repository", "dev.local", "--image-tag", "test", "--set", "stable-window=6s", "--set", "scale-to-zero-grace-period=6s")
	in.kubectl(manifests, "apply", "--server-side", "-f", "-")
	in.kubectl("", "-n", rouseSystem, "rollout", "status", "statefulset/autoscaler", "--timeout=3m")
	in.Eventually(3*time.Minute, "two activators of Rouse are ready", func() error {
		d, err := in.Client.AppsV1().Deployments(rouseSystem).Get(in.Context, "activator", metav1.GetOptions{})
		if err == nil && (d.Status.ReadyReplicas != 2 || d.Status.ObservedGeneration < d.Generation) {
			err = fmt.Errorf("%d are", d.Status.ReadyReplicas)
		}
		return err
	})
	in.t.Cleanup(func() { // as the program says that it goes
		remove := exec.Command("kubectl", "delete", "--ignore-not-found", "--wait=false", "-f", "-")
		remove.Stdin = strings.NewReader(in.rouse("", "uninstall", "--offline"))
		if out, err := remove.CombinedOutput(); err != nil {
			in.t.Errorf("what rouse uninstall printed: %v: %s", err, out)
		}
	})
}

// rouse runs the program itself and returns what it printed.
func (in *installation) rouse(stdin string, args ...string) string {
	in.t.Helper()
	cmd := exec.Command(filepath.Join(os.Getenv(harness.EnvImages), "rouse"), args...)
	var out, faults bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &faults
	if err := cmd.Run(); err != nil {
		in.t.Fatalf("rouse %s: %v: %s", strings.Join(args, " "), err, faults.String())
	}
	return out.String()
}

// deployPlain makes of a Knative Service what `rouse render` makes of it: a Deployment and a Service of its name.
func (in *installation) deployPlain(r revision) {
	in.t.Helper()
	manifests := in.rouse(r.manifest(), "render", "-f", "-", "-n", in.Namespace, "--image", "dev.local/queueproxy:test")
	in.kubectl(manifests, "apply", "--server-side", "-f", "-")
}

// plain is Rouse without Knative as a contestant: the Service's own ClusterIP, no header, no router.
func (in *installation) plain() contestant {
	return contestant{
		name: "plain Rouse", deployment: revision.plainName, selector: func(r revision) string { return "app=" + r.name },
		deploy: in.deployPlain, url: func(r revision) string { return in.URL(r.name, 80) },
		sleeps: in.plainSleeps, decided: in.plainDecided, patching: in.scaling,
	}
}

func (r revision) plainName() string { return r.name }

// plainSleeps waits until nothing is asked for, no pod is left, and an activator answers at the Service's address.
func (in *installation) plainSleeps(r revision) {
	in.t.Helper()
	in.Eventually(2*time.Minute, r.name+" sleeps", func() error {
		if n := *in.Deployment(r.name).Spec.Replicas; n != 0 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	in.WaitGone("app="+r.name, 2*time.Minute)
	in.awaitActivator(in.URL(r.name, 80), nil)
}

// plainDecided is when control wrote down that it wakes a workload: one of its two instances does.
func (in *installation) plainDecided(r revision, began time.Time) (first time.Time) {
	in.t.Helper()
	in.eachLogLine(rouseSystem, "app.kubernetes.io/component=control", began, func(line string) {
		var l struct {
			Time                     time.Time
			Msg, Namespace, Revision string
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "waking" && l.Namespace == in.Namespace && l.Revision == r.name && l.Time.After(began) {
			first = l.Time
		}
	})
	if first.IsZero() {
		in.t.Fatalf("control's log does not say that it woke %s", r.name)
	}
	return first
}

// coldMetric is a line of an activator's metrics: which one, of which phase or result, and its value.
var coldMetric = regexp.MustCompile(`^rouse_activator_(cold_start_phase_seconds_sum|cold_start_phase_seconds_count|probes_total)\{.*(?:phase|result)="([a-z_]+)".* ([0-9.e+-]+)\n$`)

// scaleMetric is a line of control's: the time that the API server took to answer, and of how many calls.
var scaleMetric = regexp.MustCompile(`^autoscaler_scale_seconds_(sum|count)() ([0-9.e+-]+)\n$`)

// coldPhases sums what Rouse's activators have counted of cold starts so far.
func (in *installation) coldPhases() map[string]float64 { return in.sums("activator", coldMetric) }

// scaling sums what Rouse's instances of control have counted of the API server's answers so far.
func (in *installation) scaling() (total time.Duration, calls int) {
	sums := in.sums("control", scaleMetric)
	return time.Duration(sums["sum "] * float64(time.Second)), int(sums["count "])
}

// sums adds up the lines of the metrics of all pods of a component that match, by which metric and label they are of.
func (in *installation) sums(component string, match *regexp.Regexp) map[string]float64 {
	in.t.Helper()
	pods, err := in.Client.CoreV1().Pods(rouseSystem).List(in.Context, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + component})
	if err != nil {
		in.t.Fatal(err)
	}
	sums := make(map[string]float64)
	for _, p := range alive(pods.Items) {
		for line := range strings.Lines(in.Get("http://" + p.Status.PodIP + ":9090/metrics").Body) {
			if m := match.FindStringSubmatch(line); m != nil {
				v, err := strconv.ParseFloat(m[3], 64)
				if err != nil {
					in.t.Fatalf("%q: %v", line, err)
				}
				sums[m[1]+" "+m[2]] += v
			}
		}
	}
	return sums
}

// logPhases says how the activators saw the cold starts since before.
func (in *installation) logPhases(before map[string]float64) {
	in.t.Helper()
	now := in.coldPhases()
	since := func(key string) float64 { return now[key] - before[key] }
	n := since("cold_start_phase_seconds_count total")
	for _, phase := range []string{"pod", "ready", "dispatch", "first_byte", "total"} {
		in.t.Logf("activators, mean of %.0f cold starts: %s %.1f ms", n, phase, 1000*since("cold_start_phase_seconds_sum "+phase)/n)
	}
	for _, result := range []string{"ok", "not_ready", "failed", "timeout"} {
		in.t.Logf("activators, questions per cold start: %s %.1f", result, since("probes_total "+result)/n)
	}
}

// TestPlain: figures of plain Rouse beside Knative's in the same cluster, from the same manifests.
func TestPlain(t *testing.T) {
	in := install(t)
	in.installRouse()
	t.Run("CPU per request", func(t *testing.T) { cpuBeside(t, in.on(t)) })
	t.Run("cold starts", func(t *testing.T) { coldStartsBeside(t, in.on(t)) })
	t.Run("burst", func(t *testing.T) { burst(t, in.on(t)) })
}
