package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/rousehq/rouse/internal/identity"
)

// refusals are answers of the API server to a write, as it words them.
var refusals = []struct {
	name   string
	answer metav1.Status
	ruling ruling
}{
	{"no right", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `deployments.apps "hello" is forbidden: User "system:serviceaccount:rouse-system:autoscaler" cannot patch resource "deployments/scale" in API group "apps" in the namespace "default"`}, noRight},
	{"no right, with the authorizer's reason", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `deployments.apps "hello" is forbidden: User "control" cannot patch resource "deployments/scale" in API group "apps" in the namespace "default": not today`}, noRight},
	{"Gatekeeper", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `admission webhook "validation.gatekeeper.sh" denied the request: [limits] replicas must be between 2 and 5`}, denied},
	{"a webhook that chooses no code", metav1.Status{Code: 400, Message: `admission webhook "validate.kyverno.svc-fail" denied the request: resource Deployment/default/hello was blocked`}, denied},
	{"a policy", metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid, Message: `deployments.apps "hello" is forbidden: ValidatingAdmissionPolicy 'limits' with binding 'limits' denied request: replicas must be between 2 and 5`}, denied},
	{"a policy that forbids", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `deployments.apps "hello" is forbidden: ValidatingAdmissionPolicy 'limits' denied request: no`}, denied},
	{"a quota", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `deployments.apps "hello" is forbidden: exceeded quota`}, denied},
	{"too large", metav1.Status{Code: 413, Reason: metav1.StatusReasonRequestEntityTooLarge, Message: "Request entity too large"}, denied},
	{"changed meanwhile", metav1.Status{Code: 409, Reason: metav1.StatusReasonConflict, Message: "the object has been modified"}, unsettled},
	{"gone", metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound, Message: `deployments.apps "hello" not found`}, unsettled},
	{"too many requests", metav1.Status{Code: 429, Reason: metav1.StatusReasonTooManyRequests, Message: "try again later"}, unsettled},
	{"an unknown account", metav1.Status{Code: 401, Reason: metav1.StatusReasonUnauthorized, Message: "Unauthorized"}, unsettled},
	{"a webhook that is not there", metav1.Status{Code: 500, Reason: metav1.StatusReasonInternalError, Message: `failed calling webhook "validation.gatekeeper.sh"`}, unsettled},
	{"the namespace is being deleted", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `it is being terminated`, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}}}, unsettled},
}

// TestAScaleThatIsRefused: it is said once, with what the server says and a remedy that is one, and again only when it is another or
// has gone and come back.
func TestAScaleThatIsRefused(t *testing.T) {
	for _, tc := range refusals {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(0)
			answer := tc.answer
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if answer.Code == 0 {
					fmt.Fprint(w, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"resourceVersion":"20"},"spec":{"replicas":1}}`)
					return
				}
				w.WriteHeader(int(answer.Code))
				fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":%q,"details":{"causes":[`, answer.Reason, answer.Code, answer.Message)
				if answer.Details != nil {
					fmt.Fprintf(w, `{"reason":%q}`, answer.Details.Causes[0].Type)
				}
				fmt.Fprint(w, `]}}`)
			}))
			t.Cleanup(s.Close)
			client, err := ConnectTo(Target{Files: []string{kubeconfig(t, s.URL)}, Context: "other", UserAgent: "test"})
			if err != nil {
				t.Fatal(err)
			}
			scaler := &Scaler{client: client, cluster: r.Cluster, fence: func() error { return nil }, reporter: r.mirror.reporter}
			scale := func() error {
				return scaler.Scale(t.Context(), identity.Revision{Namespace: "default", Name: "hello", UID: "u1"}, 1, nil)
			}
			want := map[ruling]string{noRight: "PermissionDenied may not be scaled: ", denied: "ScaleDenied is not scaled, "}[tc.ruling]
			expect := func(what string, n int) {
				t.Helper()
				got := said(r.mirror.reporter)
				if tc.ruling == unsettled {
					n = 0
				}
				if len(got) != n || n > 0 && (!strings.HasPrefix(got[0], want) || !strings.Contains(got[0], answer.Message)) {
					t.Errorf("%s: said %q, want %d that begin with %q", what, got, n, want)
				}
			}
			for range 3 {
				if scale() == nil {
					t.Fatal("it is scaled")
				}
			}
			expect("refused three times", 1)
			answer.Message += ", really"
			_ = scale()
			expect("refused in other words", 1)
			answer.Code = 0
			if err := scale(); err != nil || len(r.mirror.reporter.said) != 0 {
				t.Errorf("scaled: %v; remembered %v", err, r.mirror.reporter.said)
			}
			answer = tc.answer
			_ = scale()
			expect("refused again", 1)
		})
	}
}

// TestEndpointsThatAreRefused: likewise.
func TestEndpointsThatAreRefused(t *testing.T) {
	for _, tc := range refusals {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(1)
			r.service(helloService(nil))
			p := r.publisher
			p.reporter, p.log = r.mirror.reporter, slog.New(slog.DiscardHandler)
			for range 3 {
				p.said(r.hello(), fmt.Errorf("write: %w", &apierrors.StatusError{ErrStatus: tc.answer}))
			}
			want := map[ruling]string{noRight: "PermissionDenied the endpoints of Service hello may not be written: ", denied: "EndpointsDenied the endpoints of Service hello are not written, "}[tc.ruling]
			if got := said(p.reporter); tc.ruling == unsettled && len(got) != 0 || tc.ruling != unsettled && (len(got) != 1 || !strings.HasPrefix(got[0], want)) {
				t.Errorf("said %q, want one that begins with %q", got, want)
			}
		})
	}
}

// TestTooLarge: a book of ports that somebody's policy refuses is not full.
func TestTooLarge(t *testing.T) {
	for _, tc := range refusals {
		if err := error(&apierrors.StatusError{ErrStatus: tc.answer}); tooLarge(err) != (tc.answer.Code == 413) {
			t.Errorf("%s: too large: %t", tc.name, tooLarge(err))
		}
	}
	long := apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, "rouse-ports", field.ErrorList{field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize)})
	if !tooLarge(fmt.Errorf("update: %w", long)) || tooLarge(errors.New("no")) {
		t.Errorf("what is longer than the API takes is not recognised: %v", long)
	}
}
