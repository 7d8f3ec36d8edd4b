// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package build makes everything that the sandbox runs: pinned releases of other
// projects, the module's own programs, Debian root file systems and images.
//
// Each step is keyed by a hash of what goes into it and kept in the cache under
// that key, so a second run makes nothing. Our own programs are the exception:
// the go command knows best what changed, so it is asked every time.
package build
