package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ErrChanged says that an object was written by somebody else meanwhile.
var ErrChanged = errors.New("the object has changed meanwhile")

// WebhookStore keeps the certificates of a mutating webhook in a Secret, and its authorities in the webhook's
// configuration. It is safe for concurrent use, also by several processes.
type WebhookStore struct {
	Client            *Client
	Namespace, Secret string
	Configuration     string // MutatingWebhookConfiguration
}

// Read returns the Secret's data and version; nothing when it does not exist.
func (s *WebhookStore) Read(ctx context.Context) (data map[string][]byte, version string, err error) {
	got, err := s.Client.core.CoreV1().Secrets(s.Namespace).Get(ctx, s.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return got.Data, got.ResourceVersion, nil
}

// Write stores data if the Secret still has that version; without one it makes the Secret. It fails with [ErrChanged].
func (s *WebhookStore) Write(ctx context.Context, data map[string][]byte, version string) error {
	secrets := s.Client.core.CoreV1().Secrets(s.Namespace)
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Secret, ResourceVersion: version, Labels: map[string]string{"app.kubernetes.io/part-of": "rouse"}},
		Type:       corev1.SecretTypeOpaque, Data: data,
	}
	var err error
	if version == "" {
		_, err = secrets.Create(ctx, object, metav1.CreateOptions{})
	} else {
		_, err = secrets.Update(ctx, object, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%s/%s: %w", s.Namespace, s.Secret, ErrChanged)
	}
	return err
}

// Trust puts the authorities into every webhook of the configuration, when they are not there yet.
func (s *WebhookStore) Trust(ctx context.Context, bundle []byte) error {
	api := s.Client.core.AdmissionregistrationV1().MutatingWebhookConfigurations()
	got, err := api.Get(ctx, s.Configuration, metav1.GetOptions{})
	if err != nil {
		return err
	}
	changed := false
	for i := range got.Webhooks {
		if c := &got.Webhooks[i].ClientConfig; !bytes.Equal(c.CABundle, bundle) {
			c.CABundle, changed = bundle, true
		}
	}
	if !changed {
		return nil
	}
	_, err = api.Update(ctx, got, metav1.UpdateOptions{})
	return err
}
