// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// tooSmall says by how much a volume misses the size of the disk.
func tooSmall(have, want int64) error {
	return &report.Failure{Reason: report.VolumeTooSmall, Permanent: true,
		Message: fmt.Sprintf("the volume has %d bytes, but the disk has %d: %d are missing; ask for a larger volume", have, want, want-have)}
}

// failure gives an error of the operating system a reason. What remains of the
// error is its cause, without the names of files inside the importer.
func failure(what string, err error) error {
	cause := err
	var path *fs.PathError
	if errors.As(err, &path) {
		cause = path.Err
	}
	f := &report.Failure{Reason: report.VolumeFailed, Message: fmt.Sprintf("the volume cannot be used: %s: %v", what, cause)}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		f.Reason = report.VolumeFull
		f.Message = fmt.Sprintf("the storage behind the volume has no space left (%s: %v): free some there, or choose another storage class", what, cause)
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENODATA), errors.Is(err, unix.EILSEQ):
		f.Message = fmt.Sprintf("the storage behind the volume failed (%s: %v): look at the state of its device or of its CSI driver", what, cause)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		f.Message = fmt.Sprintf("the volume cannot be written to (%s: %v): it has to be writable for the importer's user", what, cause)
	}
	return f
}
