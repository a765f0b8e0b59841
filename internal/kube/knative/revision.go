package knative

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rousehq/rouse/internal/identity"
)

// Labels and annotations of Knative's objects.
const (
	labelService       = "serving.knative.dev/service"
	labelConfiguration = "serving.knative.dev/configuration"
	labelRevision      = "serving.knative.dev/revision"
	labelServiceType   = "networking.internal.knative.dev/serviceType"
	typePrivate        = "Private"
	typePublic         = "Public"
)

// defaultTimeout is a revision's limit when its spec says nothing, as Knative's webhook fills it in.
const defaultTimeout = 300 * time.Second

// Revision is what an activator needs to know of a Knative Revision.
type Revision struct {
	ID identity.Revision
	// Service and Configuration name its owners in metrics; Service is empty for a Configuration without one.
	Service, Configuration string
	// ContainerConcurrency is a pod's limit, 0 for none.
	ContainerConcurrency int
	// Timeout bounds a request, ResponseStart its first byte, Idle the time between two bytes; 0 means no limit.
	Timeout, ResponseStart, Idle time.Duration
	// ProbeEarly says that a pod may be used as soon as its queue-proxy answers, before Kubernetes calls it ready. It is
	// false where the queue-proxy cannot know: with an exec readiness probe or a start-up probe.
	ProbeEarly bool
}

// revisionOf reads a Revision. Fields of another shape than Knative's schema count as absent: its webhook has checked
// them.
func revisionOf(u *unstructured.Unstructured) Revision {
	labels := u.GetLabels()
	seconds := func(field string) time.Duration {
		n, _, _ := unstructured.NestedInt64(u.Object, "spec", field)
		return time.Duration(n) * time.Second
	}
	limit, _, _ := unstructured.NestedInt64(u.Object, "spec", "containerConcurrency")
	r := Revision{
		ID:      identity.Revision{Namespace: u.GetNamespace(), Name: u.GetName(), UID: string(u.GetUID()), Generation: u.GetGeneration()},
		Service: labels[labelService], Configuration: labels[labelConfiguration],
		ContainerConcurrency: int(limit),
		Timeout:              seconds("timeoutSeconds"),
		ResponseStart:        seconds("responseStartTimeoutSeconds"),
		Idle:                 seconds("idleTimeoutSeconds"),
		ProbeEarly:           probeEarly(u),
	}
	if r.Timeout == 0 {
		r.Timeout = defaultTimeout
	}
	return r
}

func probeEarly(u *unstructured.Unstructured) bool {
	containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "containers")
	for _, c := range containers {
		c, _ := c.(map[string]any)
		_, startup := c["startupProbe"]
		_, exec, _ := unstructured.NestedMap(c, "readinessProbe", "exec")
		if startup || exec {
			return false
		}
	}
	return true
}

// strip keeps of a Revision what revisionOf reads, so that thousands of them stay small in memory.
func strip(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	kept := &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}}
	kept.SetNamespace(u.GetNamespace())
	kept.SetName(u.GetName())
	kept.SetUID(u.GetUID())
	kept.SetGeneration(u.GetGeneration())
	kept.SetResourceVersion(u.GetResourceVersion())
	kept.SetLabels(u.GetLabels())
	spec := map[string]any{}
	for _, field := range []string{"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"} {
		if v, found, _ := unstructured.NestedInt64(u.Object, "spec", field); found {
			spec[field] = v
		}
	}
	spec["containers"] = strippedContainers(u)
	kept.Object["spec"] = spec
	return kept, nil
}

func strippedContainers(u *unstructured.Unstructured) []any {
	containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "containers")
	kept := make([]any, 0, len(containers))
	for _, c := range containers {
		c, _ := c.(map[string]any)
		k := map[string]any{}
		for _, field := range []string{"readinessProbe", "startupProbe"} {
			if v, found := c[field]; found {
				k[field] = v
			}
		}
		kept = append(kept, k)
	}
	return kept
}
