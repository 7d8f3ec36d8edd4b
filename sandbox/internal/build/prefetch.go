// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// fetchRoots starts to fetch the Debian root that targets will need, while others
// compile: one waits for the network, the others for the processor. The function
// returned waits for the end.
func (b *Builder) fetchRoots(ctx context.Context, names []string) (wait func() error) {
	var group errgroup.Group
	needsRoot := slices.ContainsFunc(names, func(name string) bool {
		return name == "kubevirt" || name == "cdi" || strings.HasPrefix(name, imagesTarget)
	})
	if needsRoot {
		group.Go(func() error {
			_, _, err := b.buildRoot(ctx)
			return err
		})
	}
	return group.Wait
}
