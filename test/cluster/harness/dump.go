package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tailLines is how much of each log a failed test shows.
const tailLines = 40

// dump logs what a person would look at first: pods, their logs, events. Errors are logged, too: the API server may be what failed.
func (c *Cluster) dump(ctx context.Context) {
	c.t.Helper()
	c.t.Logf("components' logs: %s", filepath.Join(os.Getenv(EnvState), "log"))
	pods, err := c.Client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Logf("dump: pods: %v", err)
		return
	}
	for _, p := range pods.Items {
		c.dumpPod(ctx, p)
	}
	events, err := c.Client.CoreV1().Events(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Logf("dump: events: %v", err)
		return
	}
	for _, e := range events.Items {
		c.t.Logf("event %s %s/%s %s ×%d: %s", e.LastTimestamp.Format("15:04:05"), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Count, e.Message)
	}
}

func (c *Cluster) dumpPod(ctx context.Context, p corev1.Pod) {
	c.t.Helper()
	c.t.Logf("pod %s %s %s deletion %v: %s", p.Name, p.Status.Phase, p.Status.PodIP, p.DeletionTimestamp, conditions(p))
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		c.t.Logf("pod %s container %s ready=%t restarts=%d state=%s last=%s", p.Name, s.Name, s.Ready, s.RestartCount, state(s.State), state(s.LastTerminationState))
		lines := int64(tailLines)
		b, err := c.Client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: s.Name, TailLines: &lines}).DoRaw(ctx)
		if err != nil {
			b = []byte(err.Error())
		}
		c.t.Logf("log of %s/%s:\n%s", p.Name, s.Name, b)
	}
}

func conditions(p corev1.Pod) string {
	var b strings.Builder
	for _, cond := range p.Status.Conditions {
		fmt.Fprintf(&b, "%s=%s ", cond.Type, cond.Status)
	}
	return b.String()
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running since " + s.Running.StartedAt.Format("15:04:05")
	case s.Waiting != nil:
		return "waiting: " + s.Waiting.Reason + ": " + s.Waiting.Message
	case s.Terminated != nil:
		return fmt.Sprintf("terminated: %s, code %d %s", s.Terminated.Reason, s.Terminated.ExitCode, s.Terminated.Message)
	}
	return "none"
}
