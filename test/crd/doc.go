// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd holds the tests of crds/: the files are complete and documented, and a real API server accepts and
// refuses, with the right words, what it should.
package crd
