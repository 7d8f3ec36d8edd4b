// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"crypto/sha256"
	"encoding/json"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
)

// maxVerified bounds the memory for children that were found in order, at some 200 bytes
// each. Of more than these some are compared again, which costs time and nothing else.
const maxVerified = 16384

// verified remembers children that were found to be as they are wanted. Most reconciles
// change nothing, and comparing a rendered machine field by field is the dearest part of
// one. Nothing is lost with it: it holds what a comparison would come to again. The nil
// value remembers nothing.
type verified struct{ children *lru.Cache }

// finding is the outcome of a comparison: the child at this version has all that is
// wanted.
type finding struct {
	version string
	want    [sha256.Size]byte
}

func newVerified() *verified { return &verified{children: lru.New(maxVerified)} }

// findingOf is what a comparison of the child could find. A child that is not there, or
// that no server has given a version, is never remembered.
func (v *verified) findingOf(child Child) (types.UID, finding, bool) {
	if v == nil || isNil(child.Have) || child.Have.GetUID() == "" || child.Have.GetResourceVersion() == "" {
		return "", finding{}, false
	}
	raw, err := json.Marshal(child.Want)
	if err != nil {
		return "", finding{}, false
	}
	return child.Have.GetUID(), finding{version: child.Have.GetResourceVersion(), want: sha256.Sum256(raw)}, true
}

func (v *verified) has(uid types.UID, found finding) bool {
	known, ok := v.children.Get(uid)
	return ok && known == found
}

func (v *verified) note(uid types.UID, found finding) { v.children.Add(uid, found) }
