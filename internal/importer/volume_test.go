// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"testing"

	"github.com/deckhouse/virtualization/internal/importer/fill"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

func TestStatusOfAFilling(t *testing.T) {
	base := &progress.Status{}
	base.Attempt(3)
	s := &fillStatus{Status: base, filling: &fill.Progress{}}
	base.Begin(report.PhaseTransferring, func() int64 { return 7 }, 0, 10)
	if told, moved := s.Sample(); told.TransferredBytes != 7 || told.TotalBytes != 10 || moved != 7 || told.Attempts != 3 {
		t.Errorf("while it is staged: %+v, %d", told, moved)
	}
	base.Failed(&report.Failure{Reason: "SourceUnreachable"})
	if told, _ := s.Sample(); told.Failure == nil || told.Failure.Reason != "SourceUnreachable" {
		t.Errorf("after a failure: %+v", told)
	}
}

func TestFields(t *testing.T) {
	for want, got := range map[string]string{
		"spec.dataSource.http.url":                    HTTPFields.of("url"),
		"spec.dataSource.containerImage.image":        ContainerImageFields.of(ContainerImageFields.Image),
		"spec.dataSource.upload.checksum.md5":         UploadFields.of("checksum.md5"),
		"" /* nothing in the spec says what it is */ : ObjectFields.of("url") + UploadFields.of(UploadFields.Image),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
