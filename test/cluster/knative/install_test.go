package knative

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// envConfig is the directory of the manifests; test/knative prints its parent.
const envConfig = "ROUSE_KNATIVE_CONFIG"

// system is where Knative's manifests put it.
const system = "knative-serving"

// activators is how many there are: two must share a limit of 1.
const activators = 2

// installation is Knative Serving in this cluster, for the length of one test.
type installation struct {
	*harness.Cluster
	t *testing.T
}

// crds come first; the rest of Knative is of kinds that Kubernetes has.
var (
	crds = []string{
		"serving/core/300-resources/*.yaml", "networking/certificate.yaml", "networking/domain-claim.yaml",
		"networking/ingress.yaml", "networking/serverlessservice.yaml", "caching/image.yaml",
	}
	settings = []string{
		"serving/core/200-serviceaccount.yaml", "serving/core/200-roles/*.yaml", "serving/core/configmaps/*.yaml",
		"networking/config-network.yaml", "serving/core/webhooks/secret.yaml",
	}
	programs = []string{
		"serving/core/deployments/activator.yaml", "serving/core/deployments/autoscaler.yaml",
		"serving/core/deployments/controller.yaml", "serving/core/deployments/webhook.yaml",
	}
	// hooks come last: from then on nothing is accepted before the webhook answers.
	hooks = []string{
		"serving/core/webhooks/configmap-validation.yaml", "serving/core/webhooks/defaulting.yaml",
		"serving/core/webhooks/resource-validation.yaml",
	}
)

// install applies Knative's own manifests, with the settings that the tests need, and waits until a Service would be accepted.
func install(t *testing.T) *installation {
	t.Helper()
	in := &installation{Cluster: harness.New(t), t: t}
	for _, image := range []string{"kn-activator", "kn-autoscaler", "kn-controller", "kn-queue", "kn-webhook", "queueproxy", "knativeactivator"} {
		in.Image(image)
	}
	in.apply("serving/core/100-namespace.yaml")
	in.apply(crds...)
	in.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	in.apply(settings...)
	in.configure("config-autoscaler", map[string]string{"stable-window": "6s", "scale-to-zero-grace-period": "6s"})
	in.apply(programs...)
	for _, name := range []string{"activator", "autoscaler", "controller", "webhook"} {
		in.fit(name)
	}
	in.markIngresses()
	for _, name := range []string{"webhook", "controller", "autoscaler", "activator"} {
		in.rolledOut(name)
	}
	in.apply(hooks...)
	in.Eventually(time.Minute, "Knative's webhook accepts a Service", func() error {
		return in.tryKubectl(revision{name: "probe"}.manifest(), "create", "--dry-run=server", "-f", "-")
	})
	return in
}

// fit gives a Deployment room on a busy machine, probes that notice a start early, and activators their number. Nothing else changes.
func (in *installation) fit(deployment string) {
	in.t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // its controller writes to it meanwhile
		d, err := in.Client.AppsV1().Deployments(system).Get(in.Context, deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		fitted(d)
		_, err = in.Client.AppsV1().Deployments(system).Update(in.Context, d, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
}

func fitted(d *appsv1.Deployment) {
	pod := &d.Spec.Template.Spec
	for i := range pod.Containers {
		pod.Containers[i].Resources.Limits = nil
		if p := pod.Containers[i].ReadinessProbe; p != nil {
			p.PeriodSeconds = 1
		}
	}
	if d.Name == "activator" {
		d.Spec.Replicas = new(int32(activators))
		surge(d)
	}
}

var builtWithKo = regexp.MustCompile(`ko://knative.dev/serving/cmd/([a-z]+)`)

// apply applies manifests as they are but for the images: those of the sandbox have names instead of import paths.
func (in *installation) apply(patterns ...string) {
	in.t.Helper()
	var all bytes.Buffer
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(os.Getenv(envConfig), pattern))
		if err != nil || len(files) == 0 {
			in.t.Fatalf("%s=%q has no %s (%v): this test is run by `make e2e-knative`", envConfig, os.Getenv(envConfig), pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				in.t.Fatal(err)
			}
			all.WriteString("\n---\n")
			all.Write(builtWithKo.ReplaceAll(text, []byte("dev.local/kn-$1:test")))
		}
	}
	in.kubectl(all.String(), "apply", "--server-side", "-f", "-")
}

func (in *installation) kubectl(stdin string, args ...string) {
	in.t.Helper()
	if err := in.tryKubectl(stdin, args...); err != nil {
		in.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
}

// tryKubectl leaves it to the manifests which namespace they are for.
func (in *installation) tryKubectl(stdin string, args ...string) error {
	cmd := exec.CommandContext(in.Context, "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// configure sets keys of one of Knative's ConfigMaps.
func (in *installation) configure(name string, data map[string]string) {
	in.t.Helper()
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		in.t.Fatal(err)
	}
	in.Eventually(time.Minute, "ConfigMap "+name+" is changed", func() error { // its webhook may be starting
		_, err := in.Client.CoreV1().ConfigMaps(system).Patch(in.Context, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// rolledOut waits until a Deployment of Knative's has the newest pods, all of them ready; older ones may still drain.
func (in *installation) rolledOut(name string) {
	in.t.Helper()
	in.Eventually(3*time.Minute, name+" is rolled out", func() error {
		d, err := in.Client.AppsV1().Deployments(system).Get(in.Context, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		want := *d.Spec.Replicas
		if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.Replicas != want {
			return fmt.Errorf("generation %d of %d: %d updated, %d ready of %d, want %d", s.ObservedGeneration, d.Generation, s.UpdatedReplicas, s.ReadyReplicas, s.Replicas, want)
		}
		return nil
	})
}

// surge makes a rollout start the new one before the old one goes.
func surge(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstrFrom(0)), MaxSurge: new(intstrFrom(1)),
	}}
}

// readyIngress is the status of a KIngress that a router has taken over.
func readyIngress(u *unstructured.Unstructured) []byte {
	balancer := map[string]any{"ingress": []any{map[string]any{"domainInternal": "router." + system + ".svc.cluster.local"}}}
	var conditions []any
	for _, kind := range []string{"LoadBalancerReady", "NetworkConfigured", "Ready"} {
		conditions = append(conditions, map[string]any{"type": kind, "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)})
	}
	b, err := json.Marshal(map[string]any{"status": map[string]any{
		"observedGeneration": u.GetGeneration(), "conditions": conditions, "publicLoadBalancer": balancer, "privateLoadBalancer": balancer,
	}})
	if err != nil {
		panic(err) // maps of strings can always be written
	}
	return b
}
