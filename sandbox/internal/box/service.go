// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

// Nothing stands for no argument or no answer in a call.
type Nothing struct{}

// Service is what the supervisor may ask of a box.
type Service struct{ init *initProcess }

// SetUp turns the fresh namespaces into the box.
func (s *Service) SetUp(spec Spec, _ *Nothing) error { return s.init.setUp(spec) }

// Ensure makes a process run.
func (s *Service) Ensure(spec process.Spec, _ *Nothing) error {
	m, err := s.init.processes()
	if err != nil {
		return err
	}
	return m.Ensure(spec)
}

// Remove stops a process.
func (s *Service) Remove(name string, _ *Nothing) error {
	m, err := s.init.processes()
	if err != nil {
		return err
	}
	m.Remove(name)
	return nil
}

// Restart ends a process so that it starts again.
func (s *Service) Restart(name string, _ *Nothing) error {
	m, err := s.init.processes()
	if err != nil {
		return err
	}
	return m.Restart(name)
}

// Status lists the processes.
func (s *Service) Status(_ Nothing, status *[]process.Status) error {
	m, err := s.init.processes()
	if err != nil {
		return err
	}
	*status = m.Status()
	for i := range *status {
		(*status)[i].MemoryBytes = process.ResidentMemory((*status)[i].PID)
	}
	return nil
}
