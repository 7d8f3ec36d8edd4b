// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission refuses a wrong ModuleConfig while its author is looking. It
// is a courtesy: where it can't be reached, the same verdict appears in the
// ModuleConfig's status a moment later.
package admission

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/backend"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

const (
	// Path is where the API server sends its reviews.
	Path = "/validate-module-config"
	// maxReview bounds what is read: objects are at most about 3 MiB, twice.
	maxReview = 8 << 20
)

// Judge decides about a request as if it had been made.
type Judge func(request settings.Request) settings.Verdict

// Handler answers the reviews of ModuleConfigs of one module.
type Handler struct {
	Module string
	Judge  Judge
	Logger *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &review); err != nil || review.Request == nil {
		http.Error(w, fmt.Sprintf("no AdmissionReview: %v", err), http.StatusBadRequest)
		return
	}
	review.Response = h.answer(review.Request)
	review.Response.UID = review.Request.UID
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.Logger.Warn("review not answered", slog.Any("error", err))
	}
}

func (h Handler) answer(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if request.Name != h.Module {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	wish, err := wishOf(request)
	if err != nil {
		return refuse(err.Error())
	}
	verdict := h.Judge(wish)
	switch verdict.Refusal {
	case settings.SettingsRefused, settings.DisablingNotConfirmed:
		return refuse(verdict.Message)
	}
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if verdict.Message != "" {
		response.Warnings = []string{verdict.Message}
	}
	return response
}

// wishOf reads what the module would be asked for after the request. Deleting is
// confirmed by the annotation on what is deleted.
func wishOf(request *admissionv1.AdmissionRequest) (settings.Request, error) {
	raw, deleting := request.Object.Raw, request.Operation == admissionv1.Delete
	if deleting {
		raw = request.OldObject.Raw
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return settings.Request{}, fmt.Errorf("read the ModuleConfig: %w", err)
	}
	wish, err := backend.ParseRequest(object)
	if deleting {
		return settings.Request{DisablingAllowed: wish.DisablingAllowed}, err
	}
	return wish, err
}

func refuse(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid,
		Code: http.StatusUnprocessableEntity, Message: message,
	}}
}
