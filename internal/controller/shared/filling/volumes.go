// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Volumes is the Filler for all sources: it copies claims by Clone, and leaves
// everything else to Populated.
type Volumes struct {
	Populated
	Clone Clone
}

var _ Filler = Volumes{}

// Observe implements Filler. While there is a DataVolume, the claim is its.
func (v Volumes) Observe(ctx context.Context, reader client.Reader, owner Owner) (Filling, error) {
	if cloning, err := v.Clone.Observe(ctx, reader, owner); err != nil || cloning.Exists() {
		return cloning, err
	}
	return v.Populated.Observe(ctx, reader, owner)
}

// Start implements Filler.
func (v Volumes) Start(fill Fill) []client.Object {
	if fill.Source.ClaimName != "" {
		return v.Clone.Start(fill)
	}
	return v.Populated.Start(fill)
}

// Kinds implements Filler.
func (v Volumes) Kinds() []client.Object { return append(v.Populated.Kinds(), v.Clone.Kinds()...) }
