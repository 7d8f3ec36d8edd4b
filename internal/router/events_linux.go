// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// A dump is interrupted when the table changes while it is read; the kernel
	// says so and the dump is simply read again.
	dumpTries = 30
	dumpPause = time.Millisecond
)

func retryDump[T any](dump func() ([]T, error)) ([]T, error) {
	var (
		out []T
		err error
	)
	for range dumpTries {
		if out, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
		time.Sleep(dumpPause)
	}
	return out, err
}

// eventGroups are the kernel's announcements that may mean that routes of ours are
// gone or lead elsewhere now: a device that went down takes IPv4 routes with it
// without a word about them.
var eventGroups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

// Events calls changed for each batch of changes that others made to devices, routes
// and rules, until the context ends.
func (k *Kernel) Events(ctx context.Context, changed func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, eventGroups...)
	if err != nil {
		return fmt.Errorf("subscribing to the kernel's changes: %w", err)
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Close)()
	for {
		messages, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// Some were lost. Which ones does not matter: everything is compared.
			changed()
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("receiving the kernel's changes: %w", err)
		case matter(messages):
			changed()
		}
	}
}

func matter(messages []syscall.NetlinkMessage) bool {
	for i := range messages {
		if !isOwnWrite(&messages[i]) {
			return true
		}
	}
	return false
}

// isOwnWrite knows the routes and rules that this program sets: their announcement
// is no news. That one of them was deleted is.
func isOwnWrite(message *syscall.NetlinkMessage) bool {
	switch message.Header.Type {
	case unix.RTM_NEWROUTE:
		return len(message.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(message.Data).Protocol == protocol
	case unix.RTM_NEWRULE:
		return true
	}
	return false
}
