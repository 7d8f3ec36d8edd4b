// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package badinput holds tests only: broken and hostile images, servers and
// container images, each given to the importer as its Pod would run it, and each
// with the whole verdict that the owner's status is made from. A message is a
// part of the interface here: whoever changes one sees it in the table.
package badinput
