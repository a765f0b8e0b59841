package kube

import (
	"errors"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ruling is what an answer of the API server says about a write.
type ruling int

const (
	unsettled ruling = iota // it may well succeed the next time
	noRight                 // control has no right to it
	denied                  // somebody's admission, or the server itself, does not want it as it is
)

// judge tells refusals that last from failures that pass by themselves: what has changed or gone meanwhile, too many requests, a
// namespace that is being deleted. An account that the server does not know is unknown for every object, not for this one.
//
// A missing right and an admission's refusal may have the same code and reason, and admission may answer with any code: a
// webhook chooses it, a policy says 422 unless told otherwise. Only the authorizer's message tells: the server writes it
// itself, of the user (k8s.io/apiserver, endpoints/handlers/responsewriters/errors.go).
func judge(err error) ruling {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return unsettled
	}
	code := status.Status().Code
	switch {
	case code < 400 || code >= 500, code == http.StatusUnauthorized, code == http.StatusNotFound, code == http.StatusConflict,
		code == http.StatusTooManyRequests, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return unsettled
	case apierrors.IsForbidden(err) && strings.Contains(status.Status().Message, ` is forbidden: User "`):
		return noRight
	default:
		return denied
	}
}

// tooLarge says whether the server refuses an object for its size.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) || apierrors.HasStatusCause(err, metav1.CauseType(field.ErrorTypeTooLong))
}
