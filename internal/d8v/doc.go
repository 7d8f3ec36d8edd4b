// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package d8v is the client for people: the verbs of "d8 v", against the
// aggregated API of the module.
package d8v
