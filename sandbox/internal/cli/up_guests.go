// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/deckhouse/virtualization/sandbox/internal/guest"
)

// guestsFolder lies in the folder that every node sees; the server of the guests
// serves it.
const guestsFolder = "guests"

// publishGuests makes the disks that guests boot from and gives them to the
// server that runs in the cluster.
func publishGuests(ctx context.Context, s *session) error {
	results, err := s.builder.Guests(ctx)
	if err != nil {
		return err
	}
	return guest.Publish(results, s.state.Path("storage", guestsFolder))
}
