// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report tells users how their modules are: in the status of Module and
// ModuleConfig objects and in events.
package report

import (
	"slices"
	"time"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// Condition types of a Module, named as Deckhouse names them; SettingsAccepted
// is ours, since Deckhouse refuses settings before they are stored.
const (
	EnabledByModuleConfig  = "EnabledByModuleConfig"
	EnabledByModuleManager = "EnabledByModuleManager"
	SettingsAccepted       = "SettingsAccepted"
	IsReady                = "IsReady"
)

// Phases of a Module.
const (
	PhaseAvailable   = "Available"
	PhaseReconciling = "Reconciling"
	PhaseReady       = "Ready"
	PhaseError       = "Error"
)

// Condition is one entry of Module.status.conditions.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason,omitempty"`
	Message            string `json:"message,omitempty"`
	LastTransitionTime string `json:"lastTransitionTime,omitempty"`
	LastProbeTime      string `json:"lastProbeTime,omitempty"`
}

// Status is the part of Module.status that is ours.
type Status struct {
	Phase      string      `json:"phase"`
	Conditions []Condition `json:"conditions"`
}

// Observation is what is known about a module when its status is computed.
type Observation struct {
	// Wanted says whether the ModuleConfig enables the module.
	Wanted  bool
	Verdict settings.Verdict
	// Enabled says whether addon-operator runs the module.
	Enabled bool
	// RunDone says that hooks and Helm release of the newest values succeeded.
	RunDone bool
	// Problem is the error of the last run or hook; of the removal where the module is not enabled.
	Problem string
	// OwnReadiness says that a hook of the module itself decides about IsReady.
	OwnReadiness bool
}

// Next computes the status that follows from an observation. It is pure.
func Next(previous Status, seen Observation, now time.Time) Status {
	next := Status{}
	next.Phase = phase(previous, seen)
	for _, condition := range []Condition{
		enabledByConfig(seen),
		enabledByManager(seen),
		settingsAccepted(seen),
		ready(previous, next.Phase, seen),
	} {
		next.Conditions = append(next.Conditions, withTime(previous, condition, now))
	}
	next.Conditions = append(next.Conditions, ofOthers(previous, next)...)
	return next
}

// ofOthers are conditions that the module's own hooks keep.
func ofOthers(previous, next Status) []Condition {
	var kept []Condition
	for _, condition := range previous.Conditions {
		if next.condition(condition.Type).Type == "" {
			kept = append(kept, condition)
		}
	}
	return kept
}

func phase(previous Status, seen Observation) string {
	switch {
	case seen.Problem != "":
		return PhaseError
	case !seen.Enabled:
		return PhaseAvailable
	case previous.Phase == PhaseReady:
		// A module stays ready while it is run again with other values.
		return PhaseReady
	case seen.RunDone && !seen.OwnReadiness:
		return PhaseReady
	}
	return PhaseReconciling
}

func enabledByConfig(seen Observation) Condition {
	if seen.Wanted {
		return Condition{Type: EnabledByModuleConfig, Status: "True"}
	}
	return Condition{
		Type: EnabledByModuleConfig, Status: "False", Reason: "Disabled",
		Message: "Create a ModuleConfig with spec.enabled: true to run the module.",
	}
}

func enabledByManager(seen Observation) Condition {
	condition := Condition{Type: EnabledByModuleManager, Status: "False", Reason: "Disabled"}
	switch {
	case seen.Enabled:
		condition.Status, condition.Reason = "True", ""
		if seen.Verdict.Refusal == settings.DisablingNotConfirmed {
			condition.Reason, condition.Message = string(seen.Verdict.Refusal), seen.Verdict.Message
		}
	case seen.Verdict.Refusal != "":
		condition.Reason, condition.Message = string(seen.Verdict.Refusal), seen.Verdict.Message
	}
	return condition
}

func settingsAccepted(seen Observation) Condition {
	if seen.Verdict.Refusal == settings.SettingsRefused {
		return Condition{
			Type: SettingsAccepted, Status: "False",
			Reason: string(settings.SettingsRefused), Message: seen.Verdict.Message,
		}
	}
	condition := Condition{Type: SettingsAccepted, Status: "True"}
	if seen.Verdict.Refusal == "" {
		condition.Message = seen.Verdict.Message
	}
	return condition
}

func ready(previous Status, phase string, seen Observation) Condition {
	condition := Condition{Type: IsReady, Status: "False"}
	switch phase {
	case PhaseAvailable:
		condition.Reason = "Disabled"
	case PhaseError:
		condition.Reason, condition.Message = "RunFailed", seen.Problem
		if !seen.Enabled {
			condition.Reason = "RemovalFailed"
		}
	case PhaseReady:
		condition.Status = "True"
	case PhaseReconciling:
		if seen.OwnReadiness && seen.RunDone {
			return ownReadiness(previous)
		}
		condition.Reason, condition.Message = "Running", "Hooks and Helm release are being run."
	}
	return condition
}

// ownReadiness keeps what the module's readiness hook wrote, until it writes again.
func ownReadiness(previous Status) Condition {
	if last := previous.condition(IsReady); last.Reason == "ReadinessProbeFailed" {
		return last
	}
	return Condition{
		Type: IsReady, Status: "False", Reason: "ReadinessProbePending",
		Message: "The release is installed; the module's readiness check has not succeeded yet.",
	}
}

func (s Status) condition(kind string) Condition {
	at := slices.IndexFunc(s.Conditions, func(c Condition) bool { return c.Type == kind })
	if at < 0 {
		return Condition{}
	}
	return s.Conditions[at]
}

// withTime sets the time of the last change of the condition's status.
func withTime(previous Status, condition Condition, now time.Time) Condition {
	last := previous.condition(condition.Type)
	condition.LastProbeTime = last.LastProbeTime
	condition.LastTransitionTime = last.LastTransitionTime
	if last.Status != condition.Status {
		condition.LastTransitionTime = now.UTC().Format(time.RFC3339)
	}
	return condition
}
