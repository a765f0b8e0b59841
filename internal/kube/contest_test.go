package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/identity"
)

// contestRig is the Deployment hello, whose scale control and somebody else set.
type contestRig struct {
	*rig
	scaler  *Scaler
	version int
	lists   int
	fields  []metav1.ManagedFieldsEntry
}

func newContest(t *testing.T) *contestRig {
	r := &contestRig{rig: newRig(t)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if q.Method == http.MethodGet {
			r.lists++
			if got := q.URL.Query().Get("fieldSelector"); got != "metadata.name=hello" {
				t.Errorf("asked for %q, want hello alone", got)
			}
			list := appsv1.DeploymentList{TypeMeta: metav1.TypeMeta{Kind: "DeploymentList", APIVersion: "apps/v1"},
				Items: []appsv1.Deployment{{ObjectMeta: metav1.ObjectMeta{Name: "hello", ManagedFields: r.fields}}}}
			_ = json.NewEncoder(w).Encode(list)
			return
		}
		var patch struct{ Spec struct{ Replicas int } }
		_ = json.NewDecoder(q.Body).Decode(&patch)
		r.version++
		fmt.Fprintf(w, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"resourceVersion":"%d"},"spec":{"replicas":%d}}`, r.version, patch.Spec.Replicas)
	}))
	t.Cleanup(s.Close)
	client, err := ConnectTo(Target{Files: []string{kubeconfig(t, s.URL)}, Context: "other", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	r.scaler = &Scaler{client: client, cluster: r.Cluster, fence: func() error { return nil }, reporter: r.mirror.reporter}
	r.others(t, 1)
	return r
}

// others is somebody else who sets the scale.
func (r *contestRig) others(t *testing.T, replicas int) {
	t.Helper()
	r.version++
	r.deployment(replicas)
	o := *r.deployments.get(key{"default", "hello"})
	o.version = fmt.Sprint(r.version)
	r.deployments.put(key{"default", "hello"}, &o)
}

func (r *contestRig) scale(t *testing.T, to int) {
	t.Helper()
	if err := r.scaler.Scale(t.Context(), identity.Revision{Namespace: "default", Name: "hello", UID: "u1"}, to, nil); err != nil {
		t.Fatal(err)
	}
}

func owning(manager, fields string, at time.Time) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "apps/v1", Time: &metav1.Time{Time: at}, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
}

// TestAScaleThatOthersSet: that control sets it back again and again is said once, with who it is.
func TestAScaleThatOthersSet(t *testing.T) {
	r := newContest(t)
	now := time.Now()
	r.fields = []metav1.ManagedFieldsEntry{
		owning("kubectl", `{"f:spec":{"f:replicas":{}}}`, now.Add(-time.Hour)),
		owning("argocd-controller", `{"f:metadata":{},"f:spec":{"f:replicas":{},"f:template":{}}}`, now.Add(-time.Second)),
		owning("kube-controller-manager", `{"f:status":{"f:replicas":{}}}`, now),
	}
	r.scale(t, 0)
	for i := range 5 {
		if got := said(r.mirror.reporter); i < contestedBy && len(got) > 0 {
			t.Fatalf("said %q after %d times", got, i)
		} else if i == contestedBy && (len(got) != 1 || !strings.HasPrefix(got[0], "ScaleContested ") || !strings.Contains(got[0], "the last time to 2 by argocd-controller")) {
			t.Fatalf("said %q after %d times, want who it is", got, i)
		} else if i > contestedBy && len(got) > 0 {
			t.Errorf("said %q again", got)
		}
		r.others(t, 2)
		r.scale(t, 0)
	}
	if r.lists != 1 {
		t.Errorf("asked %d times who it is, want once", r.lists)
	}
}

// TestAScaleThatControlSetsAlone, or that somebody sets by hand, is not contested.
func TestAScaleThatControlSetsAlone(t *testing.T) {
	r := newContest(t)
	for i := range 10 {
		r.scale(t, i%3)
	}
	r.others(t, 5)
	r.scale(t, 0)
	r.others(t, 5)
	r.scale(t, 0)
	if got := said(r.mirror.reporter); len(got) > 0 || r.lists > 0 {
		t.Errorf("said %q, asked %d times who it is", got, r.lists)
	}
}

// TestContests: when one is said, when it is over, and what is remembered.
func TestContests(t *testing.T) {
	var c contests
	now := time.Now()
	object := func(uid string, replicas int) *opted {
		o := &opted{}
		o.Namespace, o.Name, o.UID, o.Replicas = "default", "hello", uid, replicas
		return o
	}
	step := func(what string, after time.Duration, replicas int, undoes, over bool) {
		t.Helper()
		now = now.Add(after)
		if got := c.undoes(object("u1", replicas), 0, now); got != undoes {
			t.Errorf("%s: it is to be said: %t, want %t", what, got, undoes)
		}
		if got := c.wrote(object("u1", replicas), 0, now); got != over {
			t.Errorf("%s: it is over: %t, want %t", what, got, over)
		}
	}
	step("the first write", 0, 3, false, false)
	step("once", time.Second, 3, false, false)
	step("twice", time.Second, 3, false, false)
	step("later", time.Minute, 3, false, false)
	step("twice in a minute", 10*time.Second, 3, false, false)
	step("three times", 10*time.Second, 3, true, false)
	step("four times", 10*time.Second, 3, false, false)
	step("nobody else", time.Second, 0, false, false)
	step("nobody else for long", 2*time.Minute, 0, false, true)
	step("anew", time.Second, 3, false, false)
	if got := c.undoes(object("u2", 3), 0, now); got {
		t.Error("a workload that was made anew inherits a contest")
	}
	now = now.Add(2 * contestedIn)
	other := object("u3", 1)
	other.Name = "other"
	c.wrote(other, 1, now)
	if len(c.of) != 1 {
		t.Errorf("%d workloads are remembered, want the one of late", len(c.of))
	}
}

func TestManagerOfReplicas(t *testing.T) {
	at := time.Now()
	for name, tc := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		want   string
	}{
		"none":     {nil, ""},
		"no owner": {[]metav1.ManagedFieldsEntry{owning("helm", `{"f:spec":{"f:template":{}}}`, at)}, ""},
		"unknown":  {[]metav1.ManagedFieldsEntry{{Manager: "x"}, owning("y", `nonsense`, at)}, ""},
		"latest":   {[]metav1.ManagedFieldsEntry{owning("flux", `{"f:spec":{"f:replicas":{}}}`, at), owning("kubectl", `{"f:spec":{"f:replicas":{}}}`, at.Add(-1))}, "flux"},
		"no time":  {[]metav1.ManagedFieldsEntry{{Manager: "helm", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)}}, "helm"},
	} {
		if got := managerOfReplicas(tc.fields); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
