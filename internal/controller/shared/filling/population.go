// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// AnnotationPopulation is on a claim that the populator fills, and holds a
// Population. It is written only when it changes; the progress in between goes
// through the report server, under the subject of SubjectOf.
const AnnotationPopulation = "virtualization.deckhouse.io/population"

// ClaimKind is the kind in the subject of a populator's importer.
const ClaimKind = "PersistentVolumeClaim"

// PopulationState is where the population of a claim stands.
type PopulationState string

const (
	// PopulationWaiting means that the storage waits for the claim's first consumer.
	PopulationWaiting PopulationState = "Waiting"
	// PopulationPending means that something is missing; the message says what.
	PopulationPending PopulationState = "Pending"
	// PopulationRunning means that the importer is at work.
	PopulationRunning PopulationState = "Running"
	// PopulationFailed means that the last attempt failed.
	PopulationFailed PopulationState = "Failed"
	// PopulationDone means that the claim is bound to a volume with the content.
	PopulationDone PopulationState = "Done"
)

// Population is what the populator tells about a claim.
type Population struct {
	State   PopulationState `json:"state"`
	Reason  string          `json:"reason,omitempty"`
	Message string          `json:"message,omitempty"`
	// Field is the path in the source's spec that has to change, if one does.
	Field string `json:"field,omitempty"`
	// Permanent failures are not tried again until the source changes.
	Permanent bool         `json:"permanent,omitempty"`
	Attempts  int          `json:"attempts,omitempty"`
	RetryAt   *metav1.Time `json:"retryAt,omitempty"`
	// Upload is set while the content is to be uploaded.
	Upload *Upload `json:"upload,omitempty"`
	// Result is set once all bytes are written.
	Result *report.Result `json:"result,omitempty"`
}

// Upload are the addresses that accept the content, and until when.
type Upload struct {
	InCluster string      `json:"inCluster"`
	External  string      `json:"external,omitempty"`
	ExpiresAt metav1.Time `json:"expiresAt"`
}

// ParsePopulation reads the annotation. One that is missing or unreadable counts as
// nothing known.
func ParsePopulation(claim metav1.Object) Population {
	var out Population
	text, found := claim.GetAnnotations()[AnnotationPopulation]
	if !found || json.Unmarshal([]byte(text), &out) != nil {
		return Population{}
	}
	return out
}

// String is the annotation's value.
func (p Population) String() string {
	// Strings, numbers and times always encode.
	raw, _ := json.Marshal(p)
	return string(raw)
}

// RetryTime is RetryAt, or the zero time.
func (p Population) RetryTime() time.Time {
	if p.RetryAt == nil {
		return time.Time{}
	}
	return p.RetryAt.Time
}

// SubjectOf is whom the importer that fills the claim speaks for.
func SubjectOf(claim metav1.Object) token.Subject {
	return token.Subject{Kind: ClaimKind, Namespace: claim.GetNamespace(), Name: claim.GetName(), UID: string(claim.GetUID())}
}
