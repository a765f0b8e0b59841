package knative

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// readers follow what a revision's applications write, for pods that are gone before anybody asks.
type readers struct {
	in    *installation
	pods  watch.Interface
	owned sync.WaitGroup

	mu    sync.Mutex
	texts map[string]*bytes.Buffer // guarded by mu, as the buffers are; by pod
}

// read begins with the pods that there are; twice ends it.
func (in *installation) read(ctx context.Context, r revision) *readers {
	in.t.Helper()
	pods, err := in.Client.CoreV1().Pods(in.Namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "serving.knative.dev/revision=" + r.String()})
	if err != nil {
		in.t.Fatal(err)
	}
	all := &readers{in: in, pods: pods, texts: make(map[string]*bytes.Buffer)}
	all.owned.Go(func() {
		for e := range pods.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && p.Status.Phase == corev1.PodRunning && all.fresh(p.Name) {
				all.owned.Go(func() { all.follow(ctx, p.Name) })
			}
		}
	})
	return all
}

func (r *readers) fresh(pod string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts[pod] != nil {
		return false
	}
	r.texts[pod] = &bytes.Buffer{}
	return true
}

// follow reads until the application has ended, or ctx has.
func (r *readers) follow(ctx context.Context, pod string) {
	stream, err := r.in.Client.CoreV1().Pods(r.in.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: "user-container", Follow: true}).Stream(ctx)
	if err != nil {
		return // twice reads it, or finds that too few requests were seen
	}
	defer stream.Close()
	chunk := make([]byte, 32<<10)
	for {
		n, err := stream.Read(chunk)
		r.mu.Lock()
		r.texts[pod].Write(chunk[:n])
		r.mu.Unlock()
		if err == io.EOF || err != nil {
			return
		}
	}
}

// twice is called when no request is under way. It says how many requests applications saw, and which of them more than once.
func (r *readers) twice(stop context.CancelFunc) (seen int, again []string) {
	r.in.t.Helper()
	var rest []string
	for pod := range r.names() {
		if b, err := r.in.Client.CoreV1().Pods(r.in.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: "user-container"}).DoRaw(r.in.Context); err == nil {
			rest = append(rest, string(b))
			r.forget(pod)
		}
	}
	stop()
	r.pods.Stop()
	r.owned.Wait()
	for _, b := range r.texts {
		rest = append(rest, b.String())
	}
	times := make(map[string]int)
	for _, text := range rest {
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) == 5 { // when, who, method, path, ID
				if times[f[4]]++; times[f[4]] == 2 {
					again = append(again, f[4])
				}
			}
		}
	}
	return len(times), again
}

func (r *readers) names() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make(map[string]bool)
	for pod := range r.texts {
		names[pod] = true
	}
	return names
}

// forget drops what was followed of a pod whose whole log is known.
func (r *readers) forget(pod string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[pod] = &bytes.Buffer{}
}
