// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"fmt"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Fields leads to what a user can change about the source in the owner's spec.
type Fields struct {
	// Source is the path of the source, for example spec.dataSource.http. It is
	// empty where nothing in the spec says how the bytes come.
	Source string
	// Image is the field of the source that says which image it is, if one does.
	Image string
}

// The fields of the sources.
var (
	HTTPFields           = Fields{Source: "spec.dataSource.http", Image: "url"}
	ContainerImageFields = Fields{Source: "spec.dataSource.containerImage", Image: "image"}
	UploadFields         = Fields{Source: "spec.dataSource.upload"}
	ObjectFields         = Fields{}
)

// of is the path of a field of the source.
func (f Fields) of(name string) string {
	if f.Source == "" || name == "" {
		return ""
	}
	return f.Source + "." + name
}

// registryFailure gives an error of the registry a reason. None is permanent:
// it is not the user's input that has to change.
func registryFailure(err error) error {
	reason := report.RegistryUnavailable
	message := err.Error()
	switch {
	case errors.Is(err, dvcr.ErrFull):
		reason = report.RegistryFull
		message = "the image registry has no space left for this image: delete images that are not needed, or ask an administrator to enlarge dvcr.storage.persistentVolumeClaim.size of the module"
	case errors.Is(err, context.Canceled):
		return err
	}
	return &report.Failure{Reason: reason, Message: message}
}

var imageReasons = map[image.Kind]report.Reason{
	image.NotSupported: report.FormatNotSupported,
	image.Refused:      report.FormatRefused,
	image.Corrupt:      report.ImageCorrupt,
}

// failureOf maps every error to the one verdict that the controller reads.
func failureOf(ctx context.Context, err error, fields Fields) *report.Failure {
	var (
		failure    *report.Failure
		fromSource *source.Error
		changed    *source.ChangedError
		mismatch   *image.MismatchError
		fromImage  *image.Error
	)
	switch {
	case ctx.Err() != nil:
		return &report.Failure{Reason: report.Internal, Message: "the import was interrupted and will be begun again"}
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &fromSource):
		return &report.Failure{Reason: fromSource.Reason, Message: fromSource.Message, Field: fields.of(fromSource.Field), Permanent: fromSource.Permanent}
	case errors.As(err, &changed):
		return &report.Failure{Reason: report.SourceUnreachable, Message: changed.Error(), Field: fields.of(fields.Image)}
	case errors.As(err, &mismatch):
		return &report.Failure{Reason: report.ChecksumMismatch, Permanent: true, Field: fields.of("checksum." + mismatch.Want.Algorithm),
			Message: mismatch.Error() + ": correct the checksum, or what is downloaded"}
	case errors.As(err, &fromImage):
		return &report.Failure{Reason: imageReasons[fromImage.Kind], Message: fromImage.Message, Field: fields.of(fields.Image), Permanent: true}
	}
	return &report.Failure{Reason: report.Internal, Message: fmt.Sprintf("unexpected: %v", err)}
}
