// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package objectstore tries the registry of images against an object storage that others have written: the tests of the
// registry itself take one of ours, which agrees with S3 as far as we have read of it.
package objectstore
