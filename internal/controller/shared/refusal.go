// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Refusal is the API server's answer to a child that it does not let us have: a
// quota is used up, a policy forbids it, a webhook finds it wrong. Trying again
// at once is pointless, and the user has to be told.
type Refusal struct {
	// Quota tells that a quota of the namespace is used up.
	Quota   bool
	Message string
}

// RefusalOf picks the errors that are refusals. A namespace that is being deleted
// refuses everything, but then there is nobody to tell.
func RefusalOf(err error) *Refusal {
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		return nil
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	message := err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		message = status.Status().Message
	}
	// A quota's refusal has no cause of its own; its text only chooses between two
	// reasons that are handled alike.
	return &Refusal{Quota: strings.Contains(message, "exceeded quota"), Message: message}
}
