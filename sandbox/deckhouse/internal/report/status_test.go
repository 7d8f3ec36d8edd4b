// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"reflect"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

var now = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

func accepted() settings.Verdict {
	return settings.Verdict{Accepted: settings.Accepted{Enabled: true}}
}

func TestNext(t *testing.T) {
	const before, changed = "2026-05-01T09:00:00Z", "2026-05-01T10:00:00Z"
	readyBefore := Status{Phase: "Ready", Conditions: []Condition{
		{Type: "EnabledByModuleConfig", Status: "True", LastTransitionTime: before},
		{Type: "EnabledByModuleManager", Status: "True", LastTransitionTime: before},
		{Type: "SettingsAccepted", Status: "True", LastTransitionTime: before},
		{Type: "IsReady", Status: "True", LastTransitionTime: before, LastProbeTime: before},
	}}
	tests := []struct {
		name     string
		previous Status
		seen     Observation
		want     Status
	}{
		{
			name: "never asked for",
			want: Status{Phase: "Available", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "False", Reason: "Disabled", Message: "Create a ModuleConfig with spec.enabled: true to run the module.", LastTransitionTime: changed},
				{Type: "EnabledByModuleManager", Status: "False", Reason: "Disabled", LastTransitionTime: changed},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: changed},
				{Type: "IsReady", Status: "False", Reason: "Disabled", LastTransitionTime: changed},
			}},
		},
		{
			name: "starting",
			seen: Observation{Wanted: true, Verdict: accepted(), Enabled: true},
			want: Status{Phase: "Reconciling", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "True", LastTransitionTime: changed},
				{Type: "EnabledByModuleManager", Status: "True", LastTransitionTime: changed},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: changed},
				{Type: "IsReady", Status: "False", Reason: "Running", Message: "Hooks and Helm release are being run.", LastTransitionTime: changed},
			}},
		},
		{
			name:     "disabled, but not removed",
			previous: readyBefore,
			seen:     Observation{Problem: "job engine-removal failed"},
			want: Status{Phase: "Error", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "False", Reason: "Disabled", Message: "Create a ModuleConfig with spec.enabled: true to run the module.", LastTransitionTime: changed},
				{Type: "EnabledByModuleManager", Status: "False", Reason: "Disabled", LastTransitionTime: changed},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: before},
				{Type: "IsReady", Status: "False", Reason: "RemovalFailed", Message: "job engine-removal failed", LastTransitionTime: changed, LastProbeTime: before},
			}},
		},
		{
			name:     "running again keeps it ready, and nothing changes",
			previous: readyBefore,
			seen:     Observation{Wanted: true, Verdict: accepted(), Enabled: true},
			want:     readyBefore,
		},
		{
			name:     "refused settings while it runs",
			previous: readyBefore,
			seen: Observation{Wanted: true, Enabled: true, RunDone: true, Verdict: settings.Verdict{
				Accepted: settings.Accepted{Enabled: true}, Refusal: "SettingsRefused", Message: "Settings refused: spec.settings.x: no.",
			}},
			want: Status{Phase: "Ready", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "True", LastTransitionTime: before},
				{Type: "EnabledByModuleManager", Status: "True", LastTransitionTime: before},
				{Type: "SettingsAccepted", Status: "False", Reason: "SettingsRefused", Message: "Settings refused: spec.settings.x: no.", LastTransitionTime: changed},
				{Type: "IsReady", Status: "True", LastTransitionTime: before, LastProbeTime: before},
			}},
		},
		{
			name:     "unconfirmed disabling",
			previous: readyBefore,
			seen: Observation{Enabled: true, RunDone: true, Verdict: settings.Verdict{
				Accepted: settings.Accepted{Enabled: true}, Refusal: "DisablingNotConfirmed", Message: "It keeps running.",
			}},
			want: Status{Phase: "Ready", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "False", Reason: "Disabled", Message: "Create a ModuleConfig with spec.enabled: true to run the module.", LastTransitionTime: changed},
				{Type: "EnabledByModuleManager", Status: "True", Reason: "DisablingNotConfirmed", Message: "It keeps running.", LastTransitionTime: before},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: before},
				{Type: "IsReady", Status: "True", LastTransitionTime: before, LastProbeTime: before},
			}},
		},
		{
			name: "unmet requirements",
			seen: Observation{Wanted: true, Verdict: settings.Verdict{Refusal: "RequirementsNotMet", Message: "No cilium."}},
			want: Status{Phase: "Available", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "True", LastTransitionTime: changed},
				{Type: "EnabledByModuleManager", Status: "False", Reason: "RequirementsNotMet", Message: "No cilium.", LastTransitionTime: changed},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: changed},
				{Type: "IsReady", Status: "False", Reason: "Disabled", LastTransitionTime: changed},
			}},
		},
		{
			name:     "a failing run",
			previous: readyBefore,
			seen:     Observation{Wanted: true, Verdict: accepted(), Enabled: true, Problem: "helm: no such kind"},
			want: Status{Phase: "Error", Conditions: []Condition{
				{Type: "EnabledByModuleConfig", Status: "True", LastTransitionTime: before},
				{Type: "EnabledByModuleManager", Status: "True", LastTransitionTime: before},
				{Type: "SettingsAccepted", Status: "True", LastTransitionTime: before},
				{Type: "IsReady", Status: "False", Reason: "RunFailed", Message: "helm: no such kind", LastTransitionTime: changed, LastProbeTime: before},
			}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Next(test.previous, test.seen, now); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestReadinessOfTheModuleItself(t *testing.T) {
	seen := Observation{Wanted: true, Verdict: accepted(), Enabled: true, RunDone: true, OwnReadiness: true}
	pending := Next(Status{}, seen, now)
	if pending.Phase != "Reconciling" || pending.condition("IsReady").Reason != "ReadinessProbePending" {
		t.Errorf("before the hook spoke: %+v", pending)
	}

	failing := pending
	failing.Conditions = append([]Condition{}, pending.Conditions...)
	failing.Conditions[3].Reason, failing.Conditions[3].Message = "ReadinessProbeFailed", "virt-api is missing"
	kept := Next(failing, seen, now.Add(time.Hour))
	if kept.Phase != "Reconciling" || kept.condition("IsReady").Message != "virt-api is missing" {
		t.Errorf("what the hook said is lost: %+v", kept)
	}

	seen.OwnReadiness = false
	if done := Next(Status{}, seen, now); done.Phase != "Ready" {
		t.Errorf("without a hook the end of the run decides, got %+v", done)
	}
}

// What the module's own hooks say stays as they said it, and stays behind what the platform says.
func TestNextKeepsConditionsOfOthers(t *testing.T) {
	own := Condition{Type: "RequirementsMet", Status: "False", Reason: "Unmet", Message: "There is no storage class.", LastTransitionTime: "2026-05-01T08:00:00Z"}
	previous := Status{Phase: "Ready", Conditions: []Condition{own, {Type: "IsReady", Status: "True"}}}
	for name, seen := range map[string]Observation{"ready": {Wanted: true, Verdict: accepted(), Enabled: true, RunDone: true}, "off": {}} {
		got := Next(previous, seen, now).Conditions
		if len(got) != 5 || got[4] != own {
			t.Errorf("%s: %v", name, got)
		}
	}
}
