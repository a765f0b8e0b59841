package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rousehq/rouse/internal/identity"
)

// scaleServer sets every scale to 3 as version 20, and then calls after.
func scaleServer(t *testing.T, after func()) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/apis/apps/v1/namespaces/default/deployments/hello/scale"; r.Method != http.MethodPatch || r.URL.Path != want {
			t.Errorf("%s %s, want PATCH %s", r.Method, r.URL.Path, want)
		}
		after()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"hello","namespace":"default","uid":"u1","resourceVersion":"20"},"spec":{"replicas":3}}`)
	}))
	t.Cleanup(s.Close)
	c, err := ConnectTo(Target{Files: []string{kubeconfig(t, s.URL)}, Context: "other", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTheAnswerOfAScaleIsKnown: what the watch brings may be of before it, of after it, or the same with more in it.
func TestTheAnswerOfAScaleIsKnown(t *testing.T) {
	type event struct {
		version  string
		replicas int
	}
	for _, tc := range []struct {
		name          string
		before, after []event // of the answer
		gone          bool    // before the answer
		want          int
	}{
		{"no event", nil, nil, false, 3},
		{"its own event", nil, []event{{"20", 3}}, false, 3},
		{"one of before, late", nil, []event{{"15", 5}}, false, 3},
		{"one of before, in time", []event{{"15", 5}}, nil, false, 3},
		{"somebody else's, after it", nil, []event{{"20", 3}, {"21", 7}}, false, 7},
		{"somebody else's, before the answer came", []event{{"20", 3}, {"21", 7}}, nil, false, 7},
		{"both, together", nil, []event{{"21", 1}}, false, 1},
		{"it is gone", nil, nil, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.service(helloService(nil))
			put := func(e event) {
				o := &opted{version: e.version}
				o.Kind, o.Namespace, o.Name, o.UID, o.Replicas = "Deployment", "default", "hello", "u1", e.replicas
				o.Annotations = map[string]string{class: "kpa.autoscaling.knative.dev"}
				r.deployments.put(key{"default", "hello"}, o)
			}
			put(event{"10", 1})
			client := scaleServer(t, func() {
				for _, e := range tc.before {
					put(e)
				}
				if tc.gone {
					r.deployments.put(key{"default", "hello"}, nil)
				}
			})
			s := &Scaler{client: client, cluster: r.Cluster, fence: func() error { return nil }, reporter: r.mirror.reporter}
			if err := s.Scale(t.Context(), identity.Revision{Namespace: "default", Name: "hello", UID: "u1"}, 3, nil); err != nil {
				t.Fatal(err)
			}
			for _, e := range tc.after {
				put(e)
			}
			h := r.hello()
			if tc.gone {
				if h != nil {
					t.Errorf("a Deployment that is gone is there again: %+v", h.object)
				}
				return
			}
			if h == nil || h.sent.Replicas != tc.want {
				t.Errorf("now %+v, want %d replicas", h, tc.want)
			}
		})
	}
}
