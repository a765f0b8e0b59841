package kube

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func sharedTokens(server *fake.Clientset, log *slog.Logger, n int) (all []*SharedToken) {
	for range n {
		all = append(all, NewSharedToken(&Client{core: server}, "rouse-system", "rouse-token", log))
	}
	return all
}

// ran lets Run do its work in the bubble, and ends it with the test.
func ran(t *testing.T, all ...*SharedToken) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() { _ = s.Run(ctx) })
	}
	synctest.Wait()
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func secretOf(value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "rouse-system", Name: "rouse-token"}, Data: map[string][]byte{"token": []byte(value)}}
}

// TestSharedTokenIsMadeOnce: instances that start together agree.
func TestSharedTokenIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := sharedTokens(fake.NewClientset(), slog.New(slog.DiscardHandler), 3)
		if all[0].Ready() == nil || all[0].Good(context.Background(), "") {
			t.Error("ready before anything was read")
		}
		ran(t, all...)
		first, err := all[0].Token()
		if err != nil || len(first) != 2*secretBytes {
			t.Fatalf("token %q, %v", first, err)
		}
		for _, s := range all {
			if !s.Good(context.Background(), first) || s.Good(context.Background(), "") || s.Good(context.Background(), first[1:]) {
				t.Error("instances do not agree on the token")
			}
		}
	})
}

// TestSharedTokenFollowsTheSecret: a token that was there is taken, and one that replaces it is good at once, without
// asking the server for every stranger.
func TestSharedTokenFollowsTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fake.NewClientset(secretOf("old\n"))
		s := sharedTokens(server, slog.New(slog.DiscardHandler), 1)[0]
		ran(t, s)
		ctx := context.Background()
		if !s.Good(ctx, "old") {
			t.Fatal("the token that is there is refused")
		}
		if _, err := server.CoreV1().Secrets("rouse-system").Update(ctx, secretOf("new"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(secretReread)
		server.ClearActions()
		for range 5 {
			if s.Good(ctx, "guess") {
				t.Error("a guess is good")
			}
		}
		if n := len(server.Actions()); n != 1 {
			t.Errorf("five guesses asked the server %d times, want once", n)
		}
		if !s.Good(ctx, "new") || s.Good(ctx, "old") {
			t.Error("the new token is not the one that counts")
		}
	})
}

// TestSharedTokenOutlastsTheServer: what was read stays good while nobody answers.
func TestSharedTokenOutlastsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fake.NewClientset(secretOf("one"))
		s := sharedTokens(server, slog.New(slog.DiscardHandler), 1)[0]
		ran(t, s)
		if err := server.CoreV1().Secrets("rouse-system").Delete(context.Background(), "rouse-token", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(secretReread)
		if s.Good(context.Background(), "other") || !s.Good(context.Background(), "one") {
			t.Error("without the Secret the last token does not stay good")
		}
		server.PrependReactor("*", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("connection refused")
		})
		time.Sleep(secretReread)
		if s.Good(context.Background(), "other") || !s.Good(context.Background(), "one") {
			t.Error("without the server the last token does not stay good")
		}
	})
}

// TestSharedTokenSaysWhatIsMissing, once, and goes on trying.
func TestSharedTokenSaysWhatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		there []runtime.Object
		says  string
	}{
		"no right to make it": {nil, "create of secrets"},
		"no such key":         {[]runtime.Object{secretOf(" ")}, "under the key token"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := fake.NewClientset(tc.there...)
				server.PrependReactor("create", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
					return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "rouse-token", errors.New("no"))
				})
				var out strings.Builder
				s := sharedTokens(server, slog.New(slog.NewTextHandler(&out, nil)), 1)[0]
				ran(t, s)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), tc.says) {
					t.Errorf("said %d lines, want one with %q:\n%s", n, tc.says, out.String())
				}
				if s.Ready() == nil {
					t.Error("ready without a token")
				}
				_ = server.Tracker().Delete(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "rouse-system", "rouse-token")
				if err := server.Tracker().Add(secretOf("late")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if !s.Good(context.Background(), "late") {
					t.Error("the token that came later is refused")
				}
			})
		})
	}
}
