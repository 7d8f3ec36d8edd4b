// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release plays the part of Deckhouse that brings new versions of a module: it looks at a release channel in a
// ModuleSource's registry, makes ModuleReleases of what it finds there, and deploys them as the ModuleUpdatePolicy of
// the module says. Without a ModuleSource the module is the working tree.
//
// Left out are what a sandbox has no use for: update windows, notifications, several sources of one module.
package release

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resources that administrators write and read.
var (
	Sources   = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "modulesources"}
	Releases  = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "modulereleases"}
	Policies  = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha2", Resource: "moduleupdatepolicies"}
	Overrides = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha2", Resource: "modulepulloverrides"}
)

// ApprovedAnnotation on a ModuleRelease is the administrator's confirmation.
const ApprovedAnnotation = "modules.deckhouse.io/approved"

// ApplyNowAnnotation on a ModuleRelease installs it whatever the time is, and without approval.
const ApplyNowAnnotation = "modules.deckhouse.io/apply-now"

// Labels of a ModuleRelease.
const (
	moduleLabel = "module"
	sourceLabel = "source"
	policyLabel = "modules.deckhouse.io/update-policy"
)

// Phases of a ModuleRelease.
const (
	PhasePending    = "Pending"
	PhaseDeployed   = "Deployed"
	PhaseSuperseded = "Superseded"
	PhaseSkipped    = "Skipped"
)

// Modes of a ModuleUpdatePolicy.
const (
	ModeAuto      = "Auto"
	ModeAutoPatch = "AutoPatch"
	ModeManual    = "Manual"
)

// Policy says which versions come and who lets them in.
type Policy struct {
	Name    string
	Channel string
	Mode    string
	// Windows are when versions come that come by themselves; at any time if there are none.
	Windows []Window
}

// defaultPolicy is Deckhouse's for modules that name none.
var defaultPolicy = Policy{Name: "deckhouse", Channel: "Stable", Mode: ModeAuto}

// channelTags are the tags of the release channels.
var channelTags = map[string]string{
	"Alpha": "alpha", "Beta": "beta", "EarlyAccess": "early-access", "Stable": "stable", "RockSolid": "rock-solid",
}

// Status is ModuleRelease.status.
type Status struct {
	Phase          string `json:"phase,omitempty"`
	Message        string `json:"message"`
	Approved       bool   `json:"approved"`
	TransitionTime string `json:"transitionTime,omitempty"`
}

// sourceStatus is ModuleSource.status.
type sourceStatus struct {
	Phase        string         `json:"phase,omitempty"`
	ModulesCount int            `json:"modulesCount"`
	Modules      []sourceModule `json:"modules,omitempty"`
	Message      string         `json:"message"`
}

type sourceModule struct {
	Name      string `json:"name"`
	Version   string `json:"version,omitempty"`
	Policy    string `json:"policy,omitempty"`
	PullError string `json:"pullError,omitempty"`
}
