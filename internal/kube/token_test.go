package kube

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// TestTokens: what the server does with a token is its own business and tested on a real one; here it is how often it is
// asked, and what is believed while it is away.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, away := 0, false
		server := fake.NewClientset()
		server.PrependReactor("create", "tokenreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
			if away {
				return true, nil, errors.New("connection refused")
			}
			asked++
			r := a.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
			r.Status.Authenticated = r.Spec.Token == "good" && r.Spec.Audiences[0] == "rouse"
			return true, r, nil
		})
		tokens := NewTokens(&Client{core: server}, "rouse", slog.New(slog.DiscardHandler))
		expect := func(token string, want bool, wantAsked int) {
			t.Helper()
			if got := tokens.Good(context.Background(), token); got != want || asked != wantAsked {
				t.Errorf("Good(%q) = %t after %d questions, want %t after %d", token, got, asked, want, wantAsked)
			}
		}
		expect("", false, 0)
		expect("good", true, 1)
		expect("good", true, 1)
		expect("bad", false, 2)
		expect("bad", false, 2)
		time.Sleep(tokenRefusal)
		expect("bad", false, 3)
		away = true
		time.Sleep(tokenLife)
		expect("good", true, 3)
		expect("new", false, 3)
	})
}
