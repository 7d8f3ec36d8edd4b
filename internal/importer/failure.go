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

// fieldOf is the path of a field of the HTTP source in the owner's spec.
func fieldOf(name string) string {
	if name == "" {
		return ""
	}
	return "spec.dataSource.http." + name
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
func failureOf(ctx context.Context, err error) *report.Failure {
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
		return &report.Failure{Reason: fromSource.Reason, Message: fromSource.Message, Field: fieldOf(fromSource.Field), Permanent: fromSource.Permanent}
	case errors.As(err, &changed):
		return &report.Failure{Reason: report.SourceUnreachable, Message: changed.Error(), Field: fieldOf("url")}
	case errors.As(err, &mismatch):
		return &report.Failure{Reason: report.ChecksumMismatch, Permanent: true, Field: fieldOf("checksum." + mismatch.Want.Algorithm),
			Message: mismatch.Error() + ": correct the checksum, or the URL"}
	case errors.As(err, &fromImage):
		return &report.Failure{Reason: imageReasons[fromImage.Kind], Message: fromImage.Message, Field: fieldOf("url"), Permanent: true}
	}
	return &report.Failure{Reason: report.Internal, Message: fmt.Sprintf("unexpected: %v", err)}
}
