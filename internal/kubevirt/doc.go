// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kubevirt renders a VirtualMachine into the KubeVirt VirtualMachine
// that runs it. It is pure: everything the rendering depends on comes in as
// Input, and equal inputs give equal bytes.
//
// The rendered object is made for stock KubeVirt. Three habits matter for whoever
// reads the goldens in testdata:
//
//   - Devices have names and serials that are derived from the objects behind
//     them, never from their place in the list, so that reordering the list does
//     not rename a disk in the guest.
//   - What the running guest was started with travels in an annotation of the
//     template (AnnotationStartedSpec in the VirtualMachineInstance), so that
//     pending changes are found by comparing two specs and nothing is remembered.
//   - Users' labels and annotations are passed on to the guest's pod, except those
//     by which pods and guests are configured (see userMetadata).
package kubevirt
