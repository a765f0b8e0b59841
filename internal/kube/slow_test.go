package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// slowLeases is a server of Leases that takes its time for each call, and takes many at once, which the fake clientset does not.
type slowLeases struct {
	pause time.Duration

	mu     sync.Mutex
	leases map[string]*coordinationv1.Lease // guarded by mu
	calls  int                              // guarded by mu
}

// RoundTrip implements http.RoundTripper.
func (s *slowLeases) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	select {
	case <-time.After(s.pause):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	code, answer := s.answer(r.Method, path.Base(r.URL.Path), body)
	text, err := json.Marshal(answer)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, err
}

// answer is called with the lock held.
func (s *slowLeases) answer(method, name string, body []byte) (code int, answer any) {
	status := func(code int, reason string) (int, any) {
		return code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
	}
	switch {
	case method == http.MethodGet && name == "leases":
		list := &coordinationv1.LeaseList{}
		list.Kind, list.APIVersion = "LeaseList", "coordination.k8s.io/v1"
		for _, l := range s.leases {
			list.Items = append(list.Items, *l)
		}
		return http.StatusOK, list
	case method == http.MethodGet && s.leases[name] == nil:
		return status(http.StatusNotFound, "NotFound")
	case method == http.MethodGet:
		return http.StatusOK, s.leases[name]
	case method == http.MethodDelete:
		delete(s.leases, name)
		return http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	}
	l := &coordinationv1.Lease{}
	if err := json.Unmarshal(body, l); err != nil {
		return status(http.StatusBadRequest, "BadRequest")
	}
	if now := s.leases[l.Name]; now != nil && now.ResourceVersion != l.ResourceVersion {
		return status(http.StatusConflict, "Conflict")
	}
	l.Kind, l.APIVersion, l.ResourceVersion = "Lease", "coordination.k8s.io/v1", strconv.Itoa(s.calls)
	s.leases[l.Name] = l
	return http.StatusOK, l
}

// TestSharesAreTakenAtOnce: how long it takes does not depend on how many buckets there are, also when a call takes long.
func TestSharesAreTakenAtOnce(t *testing.T) {
	for _, buckets := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			const pause = 500 * time.Millisecond
			server := &slowLeases{pause: pause, leases: map[string]*coordinationv1.Lease{}}
			core, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: "http://server", QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, &http.Client{Transport: server})
			if err != nil {
				t.Fatal(err)
			}
			client := &Client{core: core}
			began := time.Now()
			var took time.Duration
			owned := map[int]uint64{}
			m := newMembership(MembershipConfig{Namespace: "ns", Name: "a", Buckets: buckets, Log: slog.New(slog.DiscardHandler), Disown: func(int) {},
				Own:     func(b int, epoch uint64) { owned[b], took = epoch, time.Since(began) },
				Resumed: func() time.Time { return time.Time{} }}, client, NewCluster(ClusterConfig{Namespace: "ns"}, client))
			m.cluster.onLease = m.saw
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { m.run(ctx) })
			<-time.After(time.Minute)
			synctest.Wait()
			// Its own lease is looked for and made, the buckets' leases are listed; then each is looked for and made.
			if len(owned) != buckets || took != 5*pause {
				t.Errorf("%d of %d buckets are taken after %v, want all after %v", len(owned), buckets, took, 5*pause)
			}
			cancel()
			running.Wait()
		})
	}
}
