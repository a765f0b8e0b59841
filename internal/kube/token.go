package kube

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// tokenLife is how long a token that was accepted is not asked about again, tokenRefusal one that was refused.
	tokenLife    = 5 * time.Minute
	tokenRefusal = 10 * time.Second
	// tokensKept bounds the answers that are remembered.
	tokensKept = 65_536
)

// Tokens judges service account tokens by asking the API server, once in a while for each. While the server is away what
// it said last stays true. It is safe for concurrent use.
type Tokens struct {
	client   *Client
	audience string
	log      *slog.Logger

	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict // guarded by mu
}

type verdict struct {
	good  bool
	until time.Time
}

// NewTokens judges tokens that were made for an audience.
func NewTokens(client *Client, audience string, log *slog.Logger) *Tokens {
	return &Tokens{client: client, audience: audience, log: log, known: make(map[[sha256.Size]byte]verdict)}
}

// Good says whether a token is a service account's and made for our audience.
func (t *Tokens) Good(ctx context.Context, token string) bool {
	if token == "" {
		return false
	}
	sum, now := sha256.Sum256([]byte(token)), time.Now()
	t.mu.Lock()
	v, known := t.known[sum]
	t.mu.Unlock()
	if known && now.Before(v.until) {
		return v.good
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := t.client.core.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{t.audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.log.Warn("a token could not be judged: what was said last stays true", "error", err)
		return known && v.good
	}
	t.keep(sum, review.Status.Authenticated, now)
	return review.Status.Authenticated
}

func (t *Tokens) keep(sum [sha256.Size]byte, good bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= tokensKept {
		for k, v := range t.known {
			if len(t.known) < tokensKept/2 && now.Before(v.until) {
				break
			}
			delete(t.known, k)
		}
	}
	life := tokenLife
	if !good {
		life = tokenRefusal
	}
	t.known[sum] = verdict{good, now.Add(life)}
}
