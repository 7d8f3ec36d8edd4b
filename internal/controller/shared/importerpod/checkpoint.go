// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// checkpointInterval is how often a checkpoint is written to the API server. A
	// newer one is in the Pod itself; the Secret's is for a Pod that takes over.
	checkpointInterval = 2 * time.Second
	// checkpointManager owns the key alone: who applies the Secret with another
	// token does not take the checkpoint away.
	checkpointManager = "virtualization-controller-checkpoint"
)

// Checkpoints writes the newest checkpoint of each transfer to its Secret, from
// where a new Pod continues. The zero value is not ready: Client and Clock are
// needed.
type Checkpoints struct {
	Client client.Client
	Clock  clock.PassiveClock

	mu      sync.Mutex
	written map[client.ObjectKey]savedCheckpoint
}

type savedCheckpoint struct {
	content []byte
	at      time.Time
}

// Save writes the checkpoint unless the Secret has it already or has got another
// one a moment ago; then it tells how long to wait, and zero otherwise. A Secret
// that is gone needs no checkpoint.
func (c *Checkpoints) Save(ctx context.Context, secret client.ObjectKey, checkpoint []byte) (time.Duration, error) {
	wait, due := c.due(secret, checkpoint)
	if !due {
		return wait, nil
	}
	empty := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}}
	full := empty.DeepCopy()
	full.Data = map[string][]byte{KeyCheckpoint: checkpoint}
	err := c.Client.Patch(ctx, full, client.MergeFrom(empty), client.FieldOwner(checkpointManager))
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("writing the checkpoint to Secret %s: %w", secret, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written == nil {
		c.written = map[client.ObjectKey]savedCheckpoint{}
	}
	c.written[secret] = savedCheckpoint{content: bytes.Clone(checkpoint), at: c.Clock.Now()}
	return 0, nil
}

func (c *Checkpoints) due(secret client.ObjectKey, checkpoint []byte) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.written[secret]
	switch {
	case len(checkpoint) == 0 || known && bytes.Equal(last.content, checkpoint):
		return 0, false
	case !known:
		return 0, true
	}
	wait := last.at.Add(checkpointInterval).Sub(c.Clock.Now())
	return max(wait, 0), wait <= 0
}

// Forget drops what is known of a transfer that has ended.
func (c *Checkpoints) Forget(secret client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.written, secret)
}
