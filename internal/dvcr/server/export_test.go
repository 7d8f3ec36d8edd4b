// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

// AbortCopies is what the process does before it serves.
var AbortCopies = abortCopies
