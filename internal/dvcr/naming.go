// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcr knows how images are named, laid out and removed in the
// module's image registry (DVCR). The registry's server is in package server,
// its credentials in package token.
package dvcr

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Kinds that own images in the registry.
const (
	KindVirtualImage        = "VirtualImage"
	KindClusterVirtualImage = "ClusterVirtualImage"
	KindVirtualDisk         = "VirtualDisk"
)

const (
	// A reference longer than this is refused by container tools.
	maxReferenceLength = 255
	// Room kept for `<address>/` and `:<uid>`, so that a repository's name does
	// not depend on the address it is reached by: the token names it without one.
	addressRoom   = 64
	tagRoom       = 1 + 36
	maxNameLength = maxReferenceLength - addressRoom - tagRoom
	hashHexLength = 16
	hashSeparator = "__"
	cutNameLength = maxNameLength - hashHexLength - len(hashSeparator)
	separators    = "-."
)

// Repository is the name of the repository that holds the object's image:
// vi/<namespace>/<name>, cvi/<name> or vd/<namespace>/<name>.
// It panics on a kind that owns no images: that is a mistake in the program.
func Repository(kind, namespace, name string) string {
	switch kind {
	case KindVirtualImage:
		return shorten("vi/" + namespace + "/" + name)
	case KindClusterVirtualImage:
		return shorten("cvi/" + name)
	case KindVirtualDisk:
		return shorten("vd/" + namespace + "/" + name)
	}
	panic(fmt.Sprintf("dvcr: objects of kind %q own no image", kind))
}

// Reference is the full reference of the object's image. The tag is the
// object's uid, so an image made anew under an old name is never taken for the
// old one from a node's cache.
func Reference(address, kind, namespace, name, uid string) string {
	return address + "/" + Repository(kind, namespace, name) + ":" + uid
}

// shorten replaces the end of a too long name by a hash of the whole name. Two
// underscores are valid in a repository but in no Kubernetes name, so a
// shortened name never equals another object's full one.
func shorten(repository string) string {
	if len(repository) <= maxNameLength {
		return repository
	}
	hash := fnv.New64a()
	hash.Write([]byte(repository))
	kept := strings.TrimRight(repository[:cutNameLength], separators)
	return fmt.Sprintf("%s%s%016x", kept, hashSeparator, hash.Sum64())
}
