// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report is the protocol between the importer and the controller: the
// verdict in the container's termination message and the progress posted while
// bytes move.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Reason is a machine-readable cause of a failed import.
type Reason string

const (
	// SourceNotFound: the source answered that the image does not exist (404, 410).
	SourceNotFound Reason = "SourceNotFound"
	// SourceUnauthorized: the source asks for credentials or refuses them (401, 403).
	SourceUnauthorized Reason = "SourceUnauthorized"
	// SourceUnreachable: no connection, a stall, a broken stream, a server error, a redirect that leads nowhere.
	SourceUnreachable Reason = "SourceUnreachable"
	// SourceTLS: the source's certificate could not be verified.
	SourceTLS Reason = "SourceTLS"
	// ChecksumMismatch: the bytes are not the ones the checksum promises.
	ChecksumMismatch Reason = "ChecksumMismatch"
	// FormatNotSupported: the bytes are no disk image, or one of a kind that is not accepted.
	FormatNotSupported Reason = "FormatNotSupported"
	// FormatRefused: a known format that asks for something unsafe: a backing
	// file, an external data file, encryption, an unknown feature.
	FormatRefused Reason = "FormatRefused"
	// ImageCorrupt: a known format whose header or length contradicts itself.
	ImageCorrupt Reason = "ImageCorrupt"
	// RegistryFull: the image registry has no space left.
	RegistryFull Reason = "RegistryFull"
	// RegistryUnavailable: the image registry does not answer or refuses the request.
	RegistryUnavailable Reason = "RegistryUnavailable"
	// VolumeTooSmall: the disk does not fit onto the volume.
	VolumeTooSmall Reason = "VolumeTooSmall"
	// VolumeFull: the storage behind the volume has no space left.
	VolumeFull Reason = "VolumeFull"
	// VolumeFailed: the volume cannot be opened, read, written or made durable.
	VolumeFailed Reason = "VolumeFailed"
	// Internal: anything else; the message holds the details.
	Internal Reason = "Internal"
)

// Result describes an image that is published in the registry.
type Result struct {
	// Digest of the image's manifest, "sha256:<hex>".
	Digest string `json:"digest"`
	// Format of the disk: qcow2, raw or iso.
	Format string `json:"format"`
	// VirtualSizeBytes is the size of the disk that a guest sees.
	VirtualSizeBytes int64 `json:"virtualSizeBytes"`
	// StoredSizeBytes is the size of the disk's file in the registry.
	StoredSizeBytes int64 `json:"storedSizeBytes"`
	// TransferredBytes is what was read from the source, retries included.
	TransferredBytes      int64   `json:"transferredBytes"`
	DurationSeconds       float64 `json:"durationSeconds"`
	AverageBytesPerSecond int64   `json:"averageBytesPerSecond"`
	// CDROM is true when the image can be attached only as a CD-ROM.
	CDROM bool `json:"cdrom"`
}

// Failure says why an import ended without an image.
type Failure struct {
	Reason Reason `json:"reason"`
	// Message names what was found and the remedy, without any secret.
	Message string `json:"message"`
	// Field is the path in the owner's spec that has to change, if one does.
	Field string `json:"field,omitempty"`
	// Permanent failures are not retried: the input has to change first.
	Permanent bool `json:"permanent"`
}

// Error makes a failure usable as an error.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %s", f.Reason, f.Message) }

// Short is the failure with a message that fits everywhere.
func (f Failure) Short() *Failure {
	f.Message = truncate(f.Message, maxMessageBytes)
	return &f
}

// Termination is the content of the importer's termination message: exactly
// one of the members is set.
type Termination struct {
	Result  *Result  `json:"result,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// MaxTerminationBytes is where kubelet cuts a container's termination message.
const MaxTerminationBytes = 4096

// maxMessageBytes keeps a failure's JSON under MaxTerminationBytes even when
// every byte of the message has to be escaped (\u00XX: six for one).
const maxMessageBytes = 640

// Marshal encodes the termination for the termination message file.
func (t Termination) Marshal() ([]byte, error) {
	if t.Failure != nil {
		t.Failure = t.Failure.Short()
	}
	return json.Marshal(t)
}

// ParseTermination reads a container's termination message. An empty message
// is an error: the importer was killed before it could say anything.
func ParseTermination(message string) (*Termination, error) {
	var t Termination
	if err := json.Unmarshal([]byte(message), &t); err != nil {
		return nil, fmt.Errorf("the importer left no readable verdict: %w", err)
	}
	if (t.Result == nil) == (t.Failure == nil) {
		return nil, errors.New("the importer's verdict must hold either a result or a failure")
	}
	return &t, nil
}

// truncate cuts s to at most limit bytes at a rune's border.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut := limit - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}

// Progress is what the importer posts while bytes move.
type Progress struct {
	// TransferredBytes is how much of the image has been stored.
	TransferredBytes int64 `json:"transferredBytes"`
	// TotalBytes is the size of the image, 0 if it is not known.
	TotalBytes            int64 `json:"totalBytes"`
	BytesPerSecond        int64 `json:"bytesPerSecond"`
	AverageBytesPerSecond int64 `json:"averageBytesPerSecond"`
	// Phase is one of the constants that begin with Phase; empty is Transferring.
	Phase string `json:"phase,omitempty"`
	// Attempts counts how often the import was begun or continued.
	Attempts int `json:"attempts,omitempty"`
	// RetryAt is when the importer tries again, while it waits for that.
	RetryAt *time.Time `json:"retryAt,omitempty"`
	// Failure is what the last attempt ended with, while the importer goes on by
	// itself. It is there until the next attempt has moved bytes.
	Failure *Failure `json:"failure,omitempty"`
	// Checkpoint is the newest Checkpoint, encoded: whoever starts the importer
	// again hands it back.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
}

// What an importer is doing.
const (
	// PhaseTransferring: bytes move from the source to the sink.
	PhaseTransferring = "Transferring"
	// PhaseConverting: the image is brought into another format.
	PhaseConverting = "Converting"
	// PhasePublishing: all bytes are there and become an image.
	PhasePublishing = "Publishing"
	// PhaseWaiting: something failed that may pass; the next attempt is at RetryAt.
	PhaseWaiting = "Waiting"
)

// Percent is the whole percentage done, between 0 and 99: only a published
// image is at 100. It is 0 while the total is unknown.
func (p Progress) Percent() int {
	if p.TotalBytes <= 0 || p.TransferredBytes <= 0 {
		return 0
	}
	percent := float64(p.TransferredBytes) / float64(p.TotalBytes) * 100
	return int(min(percent, 99))
}
