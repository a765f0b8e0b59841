package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// TestAWatchThatWorksAgain: it is said when it does, and not when it ends the next time; one whose lists come and whose watch is
// refused does not work.
func TestAWatchThatWorksAgain(t *testing.T) {
	failed := apierrors.NewInternalError(io.EOF)
	refused := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "", errors.New("no"))
	const broken, again = "deployments false", "deployments true"
	for _, tc := range []struct {
		name           string
		lists, watches []error
		want           []string
	}{
		{"never broken", nil, nil, nil},
		{"lists fail for a while", []error{failed, failed, failed, nil}, nil, []string{broken, again}},
		{"watches are refused for a while", nil, []error{refused, refused, refused, nil}, []string{broken, again}},
		{"watches are refused for good", nil, []error{refused}, []string{broken}},
		{"lists, and then watches", []error{failed, nil}, []error{refused, refused, nil}, []string{broken, again}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lists, watches := &failures{left: map[string][]error{"deployments": tc.lists}}, &failures{left: map[string][]error{"deployments": tc.watches}}
				server := fake.NewClientset(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello"}})
				server.PrependReactor("list", "deployments", func(a k8stesting.Action) (bool, runtime.Object, error) {
					err := lists.next(a)
					return err != nil, nil, err
				})
				server.PrependWatchReactor("deployments", func(a k8stesting.Action) (bool, watch.Interface, error) {
					err := watches.next(a)
					return err != nil, nil, err
				})
				server.PrependWatchReactor("*", listsFirst)
				scaled := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
					map[schema.GroupVersionResource]string{{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}: "ScaledObjectList"})
				scaled.PrependWatchReactor("*", listsFirst)
				c := NewCluster(ClusterConfig{Namespace: "ns", Log: slog.New(slog.DiscardHandler)}, &Client{core: server, dynamic: scaled})
				var said []string
				c.onWatch = func(what string, err error) { said = append(said, fmt.Sprint(what, " ", err == nil)) }
				c.addWatches()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- c.Run(ctx) }()
				<-time.After(time.Hour)
				synctest.Wait()
				if !slices.Equal(said, tc.want) {
					t.Errorf("an hour later: said %q, want %q", said, tc.want)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
