// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// staleDelay is how long a key waits for the cache to learn of the controller's
// own write.
const staleDelay = 50 * time.Millisecond

// superseded remembers for each object the resource version that the controller's
// last write replaced. As long as the cache still shows that version, a decision
// would be made from a state that is known to be past, and its write would only
// be refused. The zero value is ready to use.
type superseded struct {
	mu       sync.Mutex
	versions map[types.NamespacedName]string
}

// covers tells whether the cache shows a state that the controller itself has
// replaced.
func (s *superseded) covers(cached client.Object) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, noted := s.versions[client.ObjectKeyFromObject(cached)]
	return noted && version == cached.GetResourceVersion()
}

// note records the outcome of a reconcile: what the cache showed before it, and
// the object with the metadata of the last write.
func (s *superseded) note(cached, written client.Object) {
	if cached.GetResourceVersion() == written.GetResourceVersion() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions == nil {
		s.versions = map[types.NamespacedName]string{}
	}
	s.versions[client.ObjectKeyFromObject(cached)] = cached.GetResourceVersion()
}

// forget drops what is known of an object that is gone.
func (s *superseded) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.versions, key)
}
