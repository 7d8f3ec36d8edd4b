// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// checkpointFile is the name of the checkpoint in the state directory.
const checkpointFile = "checkpoint"

// Checkpoints keeps the newest checkpoint of an order where a container that is
// started again finds it, and hands it to the reports for a pod that takes over.
type Checkpoints struct {
	order  string
	path   string
	status *Status
	logger *slog.Logger

	mu       sync.Mutex
	sequence int64
	attempts int
}

// OrderOf names an import by everything that has to be the same for going on
// with it. Only a digest is kept: a URL may hold a password.
func OrderOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// Load returns the newest checkpoint of the order that is in the
// state directory or in the other file, nil if there is none, and what keeps
// the next ones. Both paths may be empty or lead to nothing.
func Load(order, stateDir, otherFile string, status *Status, logger *slog.Logger) (*Checkpoints, *report.Checkpoint) {
	c := &Checkpoints{order: order, status: status, logger: logger}
	if stateDir != "" {
		c.path = filepath.Join(stateDir, checkpointFile)
	}
	var encoded [][]byte
	for _, path := range []string{c.path, otherFile} {
		if content, err := os.ReadFile(path); err == nil {
			encoded = append(encoded, content)
		}
	}
	newest := report.NewestCheckpoint(order, encoded...)
	c.attempts = 1
	if newest != nil {
		c.sequence, c.attempts = newest.Sequence, newest.Attempts+1
		c.tellAgain(newest)
	}
	status.Attempt(c.attempts)
	return c, newest
}

// tellAgain tells of a checkpoint that another importer has made: the controller may
// have been started since, and know only what it is told.
func (c *Checkpoints) tellAgain(newest *report.Checkpoint) {
	if content, err := newest.Marshal(); err == nil {
		c.status.Checkpointed(content)
	}
}

// Attempt counts that the import goes on after a failure.
func (c *Checkpoints) Attempt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	c.status.Attempt(c.attempts)
}

// Save keeps a checkpoint. That it cannot be written does not stop the import.
func (c *Checkpoints) Save(checkpoint report.Checkpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sequence++
	checkpoint.Order, checkpoint.Sequence, checkpoint.Attempts = c.order, c.sequence, c.attempts
	content, err := checkpoint.Marshal()
	if err == nil {
		c.status.Checkpointed(content)
		err = c.write(content)
	}
	if err != nil {
		c.logger.Warn("the checkpoint is not kept: an importer that is started again begins earlier", "error", err)
	}
}

// write replaces the file as a whole: half a checkpoint would be none.
func (c *Checkpoints) write(content []byte) error {
	if c.path == "" {
		return nil
	}
	temporary := c.path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	if err := os.Rename(temporary, c.path); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	return nil
}
