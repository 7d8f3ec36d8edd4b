// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image reads the definitions of container images (images/*/image.yaml)
// and assembles them into OCI archives, without a container engine.
//
// The same definitions are read by werf for a release. An image is assembled the
// same way each time: its digest depends on what is in it and on nothing else.
package image
