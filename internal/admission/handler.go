package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/rousehq/rouse/internal/inject"
)

// maxReview bounds a request: the API server's own bound of an object is 3 MiB.
const maxReview = 8 << 20

// review is admission.k8s.io/v1 AdmissionReview, as far as it is used.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Operation string `json:"operation"`
	Resource  struct {
		Group    string `json:"group"`
		Resource string `json:"resource"`
	} `json:"resource"`
	Object json.RawMessage `json:"object"`
}

type response struct {
	UID       string   `json:"uid"`
	Allowed   bool     `json:"allowed"`
	PatchType string   `json:"patchType,omitempty"`
	Patch     []byte   `json:"patch,omitempty"` // base64 in JSON
	Warnings  []string `json:"warnings,omitempty"`
}

// Handler answers admission reviews of pods. Make one with [NewHandler].
type Handler struct {
	options inject.Options
	log     *slog.Logger
}

// NewHandler checks the options; log gets a line per pod that is let through without a sidecar.
func NewHandler(o inject.Options, log *slog.Logger) (*Handler, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Handler{options: o, log: log}, nil
}

// ServeHTTP answers one review.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, "the review is larger than 8 MiB, or was cut", http.StatusRequestEntityTooLarge)
		return
	}
	var in review
	if err := json.Unmarshal(body, &in); err != nil || in.Request == nil || in.Request.UID == "" {
		http.Error(w, "this is no AdmissionReview with a request", http.StatusBadRequest)
		return
	}
	if in.APIVersion != "admission.k8s.io/v1" {
		http.Error(w, fmt.Sprintf("apiVersion %q: only admission.k8s.io/v1 is answered", in.APIVersion), http.StatusBadRequest)
		return
	}
	out, err := json.Marshal(review{APIVersion: in.APIVersion, Kind: "AdmissionReview", Response: h.answer(in.Request)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // an API server that left has let the pod through
}

// answer decides about one pod.
func (h *Handler) answer(r *request) *response {
	out := &response{UID: r.UID, Allowed: true}
	if r.Resource.Group != "" || r.Resource.Resource != "pods" || r.Operation != "CREATE" {
		return out
	}
	patch, warnings, err := inject.Pod(r.Object, r.Namespace, h.options)
	out.Warnings = warnings
	if err == nil && len(patch) > 0 {
		out.Patch, err = json.Marshal(patch)
		out.PatchType = "JSONPatch"
	}
	if err != nil {
		h.refuse(r, err, out)
	}
	return out
}

// refuse lets a pod through as it is, and says why.
func (h *Handler) refuse(r *request, err error, out *response) {
	out.Patch, out.PatchType = nil, ""
	var faults inject.Faults
	if !errors.As(err, &faults) {
		out.Warnings = append(out.Warnings, "no queue-proxy was injected: "+err.Error())
	}
	for _, f := range faults {
		out.Warnings = append(out.Warnings, "no queue-proxy was injected: "+f.Error())
	}
	h.log.Warn("a pod has no queue-proxy: its traffic goes by way of the activators", "namespace", r.Namespace, "error", err.Error())
}
