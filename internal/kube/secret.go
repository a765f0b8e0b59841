package kube

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	secretKey   = "token"
	secretBytes = 32
	// secretReread bounds how often a token that is not ours makes us look whether the Secret has another one now.
	secretReread = 5 * time.Second
)

// SharedToken is what activators and the other instances of control show: a value in a Secret, which is made when there
// is none. It is safe for concurrent use.
type SharedToken struct {
	client          *Client
	namespace, name string
	log             *slog.Logger

	mu    sync.Mutex
	value string    // guarded by mu; empty until it has been read
	read  time.Time // guarded by mu; when the Secret was last asked for
}

// NewSharedToken names the Secret; nothing is asked of the server before Run.
func NewSharedToken(client *Client, namespace, name string, log *slog.Logger) *SharedToken {
	return &SharedToken{client: client, namespace: namespace, name: name, log: log}
}

// Run tries until there is a token or ctx ends. It says once what is in the way.
func (t *SharedToken) Run(ctx context.Context) error {
	said, pauses := "", reconnect
	for ctx.Err() == nil {
		err := t.fetch(ctx, true)
		if err == nil {
			break
		}
		if said != err.Error() && ctx.Err() == nil {
			said = err.Error()
			t.log.Error("there is no token for activators yet: none can connect", "error", err)
		}
		pause(ctx, pauses.Step())
	}
	<-ctx.Done()
	return nil
}

// Ready says why there is no token yet.
func (t *SharedToken) Ready() error {
	_, err := t.Token()
	return err
}

// Token returns the value as it was last read.
func (t *SharedToken) Token() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value == "" {
		return "", fmt.Errorf("secret %s/%s has not been read yet", t.namespace, t.name)
	}
	return t.value, nil
}

// Good says whether this is the token. One that is not may be a newer one: then the Secret is read again. One that is gone
// is not made anew: activators still show what they have.
func (t *SharedToken) Good(ctx context.Context, token string) bool {
	if ok, look := t.judge(token); ok || !look {
		return ok
	}
	if err := t.fetch(ctx, false); err != nil {
		t.log.Warn("whether the token for activators has changed is not known: the last one stays good", "error", err)
	}
	ok, _ := t.judge(token)
	return ok
}

// judge compares, and says whether it is time to look again.
func (t *SharedToken) judge(token string) (ok, look bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok = t.value != "" && subtle.ConstantTimeCompare([]byte(t.value), []byte(token)) == 1
	look = !ok && token != "" && time.Since(t.read) >= secretReread
	if look {
		t.read = time.Now()
	}
	return ok, look
}

// fetch reads the Secret, or makes it if it may.
func (t *SharedToken) fetch(ctx context.Context, create bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secrets := t.client.core.CoreV1().Secrets(t.namespace)
	secret, err := secrets.Get(ctx, t.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && create {
		secret, err = secrets.Create(ctx, t.fresh(), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // another instance was faster
			secret, err = secrets.Get(ctx, t.name, metav1.GetOptions{})
		}
		if apierrors.IsForbidden(err) {
			return fmt.Errorf("secret %s/%s is not there, and may not be made: make it with the key %s, or grant control's service account create of secrets: %w",
				t.namespace, t.name, secretKey, err)
		}
	}
	if err != nil {
		return fmt.Errorf("secret %s/%s: %w", t.namespace, t.name, err)
	}
	value := strings.TrimSpace(string(secret.Data[secretKey]))
	if value == "" {
		return errors.New("secret " + t.namespace + "/" + t.name + " has nothing under the key " + secretKey + ": put a token there, or delete it and a new one is made")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value, t.read = value, time.Now()
	return nil
}

func (t *SharedToken) fresh() *corev1.Secret {
	b := make([]byte, secretBytes)
	rand.Read(b) // which never fails
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: t.name, Namespace: t.namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "rouse"}},
		Data:       map[string][]byte{secretKey: []byte(hex.EncodeToString(b))},
	}
}
