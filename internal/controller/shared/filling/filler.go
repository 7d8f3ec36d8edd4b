// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Filler makes volumes and has them filled.
type Filler interface {
	// Observe reads the fill that is under way for the owner, if any.
	Observe(ctx context.Context, reader client.Reader, owner Owner) (Filling, error)
	// Start returns the objects that carry out the fill; they are made once. It is pure.
	Start(fill Fill) []client.Object
	// Kinds returns an empty object of each kind that Observe reads, to be watched.
	// What Start makes names the owner as its controller, or is the claim itself.
	Kinds() []client.Object
}

// Owner identifies the disk or the image that a volume is made for.
type Owner struct {
	Kind      string
	Namespace string
	Name      string
	UID       types.UID
}

// Prefixes of the names of claims.
const (
	DiskClaimPrefix  = "d8v-vd-"
	ImageClaimPrefix = "d8v-vi-"
)

// ClaimName is the name of the owner's PersistentVolumeClaim. It holds the uid, so
// an owner that is deleted and made anew never takes over its predecessor's data.
func (o Owner) ClaimName() string {
	if o.Kind == v1alpha2.VirtualImageKind {
		return ImageClaimPrefix + string(o.UID)
	}
	return DiskClaimPrefix + string(o.UID)
}

// Fill is an order to make a volume with some content.
type Fill struct {
	Owner Owner
	// Hash identifies the order, see HashOf: a fill of another order is stopped and
	// begun anew.
	Hash             string
	Source           Source
	StorageClassName string
	Modes            Modes
	Size             resource.Quantity
}

// Source is what a volume is filled with; the zero Source leaves it blank.
type Source struct {
	// Kind and Name are of the object that the populator reads: an image, or the
	// owner itself for what its own data source names.
	Kind string
	Name string
	// ClaimName is the claim to copy instead, in the namespace of the owner.
	ClaimName string
	// UID is that of the object that was chosen: when the same name comes to mean
	// another object, the fill is begun anew.
	UID types.UID
}

// IsBlank tells that there is nothing to fill the volume with.
func (s Source) IsBlank() bool { return s.Kind == "" && s.ClaimName == "" }

// HashOf identifies an order by the words of the user. The value must encode as JSON.
func HashOf(order any) string {
	// Only structs of strings and numbers are hashed, which always encode.
	raw, _ := json.Marshal(order)
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// State is where a fill stands.
type State string

const (
	// None means that there is no fill.
	None State = ""
	// Pending means that the fill has not begun.
	Pending State = "Pending"
	// WaitingForConsumer means that the storage waits for the first consumer.
	WaitingForConsumer State = "WaitingForConsumer"
	// Uploading means that the upload address is open and the upload is not finished.
	Uploading State = "Uploading"
	// Running means that bytes are being written.
	Running State = "Running"
	// Troubled means that the last attempt failed and another one follows by itself.
	Troubled State = "Troubled"
	// Failed means that somebody has to look.
	Failed State = "Failed"
	// Done means that the volume holds the content.
	Done State = "Done"
)

// Filling is a fill that was observed.
type Filling struct {
	Owner Owner
	State State
	// Hash is that of the order that is being carried out.
	Hash string
	// SourceUID is the uid of the object that is being read; empty for a blank volume.
	SourceUID types.UID
	// Percent is how much is done, 0 if it is not known.
	Percent int
	// Message says what is being waited for or what failed, Reason in one word, and
	// Field which part of the owner's spec has to change.
	Message string
	Reason  string
	Field   string
	// Quota tells that the message is about a quota of the namespace.
	Quota bool
	// Attempts counts the attempts from 1; RetryAt is when the next one begins, or
	// zero if it does not depend on the time.
	Attempts int
	RetryAt  time.Time
	// Speed is set while bytes are being fetched, and keeps the average afterwards.
	Speed *Speed
	// Upload holds the addresses that accept the content.
	Upload *Upload
	// Result tells about the content, once it is known. It outlives the fill.
	Result *report.Result
	// Method says how the content is copied and why in this way; only for clones.
	Method string
	// Terminating tells that the fill is being deleted.
	Terminating bool
	// Objects are what there is to delete when the fill is over or unwanted, beside
	// the claim, in this order: the last one is what the fill is known by.
	Objects []client.Object
}

// Speed is how fast bytes come in, in bytes per second.
type Speed struct {
	Current int64
	Average int64
}

// HasMoved tells whether any of the content has arrived: then the next attempt goes
// on where the last one stopped.
func (f Filling) HasMoved() bool { return f.Speed != nil }

// Exists tells whether there is a fill at all.
func (f Filling) Exists() bool { return f.State != None }
