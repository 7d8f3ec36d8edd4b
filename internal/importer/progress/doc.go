// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package progress tells how far an import is: to the controller while it runs,
// and to the importer that goes on with it when it does not.
package progress
