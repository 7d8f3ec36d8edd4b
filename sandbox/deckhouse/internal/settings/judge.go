// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package settings decides what a module runs with: given what its ModuleConfig
// asks for and what was accepted last, it accepts the new wish or refuses it,
// and then what ran before goes on.
package settings

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/conversion"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
)

// Request is what the ModuleConfig of a module says; the zero value stands for
// a ModuleConfig that does not exist.
type Request struct {
	Enabled     bool
	Version     int
	Settings    map[string]any
	Maintenance string
	// DisablingAllowed is the user's confirmation, given as an annotation.
	DisablingAllowed bool
}

// Accepted is what a module runs with. Settings are of the newest version.
type Accepted struct {
	Enabled          bool           `json:"enabled"`
	Settings         map[string]any `json:"settings,omitempty"`
	Maintenance      string         `json:"maintenance,omitempty"`
	DisablingAllowed bool           `json:"disablingAllowed,omitempty"`
}

// Equal compares what two states would run.
func (a Accepted) Equal(b Accepted) bool {
	return reflect.DeepEqual(a, b)
}

// Reason is a stable word for why a wish was not carried out.
type Reason string

// Reasons of refusals.
const (
	// SettingsRefused: the settings do not fit the module's schema or version.
	SettingsRefused Reason = "SettingsRefused"
	// DisablingNotConfirmed: the module asks for an annotation before it is switched off.
	DisablingNotConfirmed Reason = "DisablingNotConfirmed"
	// RequirementsNotMet: the platform lacks what module.yaml requires.
	RequirementsNotMet Reason = "RequirementsNotMet"
)

// ConfirmationAnnotation on a ModuleConfig allows to disable its module.
const ConfirmationAnnotation = "modules.deckhouse.io/allow-disabling"

// Verdict is the decision about a Request.
type Verdict struct {
	// Accepted is what the module runs with from now on.
	Accepted Accepted
	// Refusal is empty where the wish was carried out.
	Refusal Reason
	// Message explains a refusal, or advises.
	Message string
}

// Module is what is known of a module when its settings are judged.
type Module struct {
	Definition definition.Definition
	Converter  *conversion.Converter
	Schema     *Schema
	// Check is the module's own, for what a schema can't tell; nil for none. It may
	// look into the cluster.
	Check func(settings map[string]any) error
}

// Judge decides about a request. But for the module's own check it is pure: the same arguments give the same verdict.
func (m Module) Judge(request Request, last Accepted, platform definition.Platform) Verdict {
	if !request.Enabled {
		return m.judgeDisabling(request, last)
	}
	if unmet := m.Definition.Requirements.Unmet(platform); len(unmet) > 0 {
		return Verdict{
			Accepted: Accepted{DisablingAllowed: request.DisablingAllowed},
			Refusal:  RequirementsNotMet,
			Message:  "The module can't run here: " + strings.Join(unmet, "; "),
		}
	}
	settings, err := m.newestSettings(request, last)
	if err != nil {
		return Verdict{Accepted: last, Refusal: SettingsRefused, Message: refusedSettings(err, last)}
	}
	return Verdict{
		Accepted: Accepted{
			Enabled: true, Settings: settings, Maintenance: request.Maintenance,
			DisablingAllowed: request.DisablingAllowed,
		},
		Message: m.advice(request),
	}
}

func (m Module) judgeDisabling(request Request, last Accepted) Verdict {
	confirmed := request.DisablingAllowed || last.DisablingAllowed
	if !last.Enabled || !m.Definition.Disable.Confirmation || confirmed {
		return Verdict{}
	}
	return Verdict{
		Accepted: last,
		Refusal:  DisablingNotConfirmed,
		Message: fmt.Sprintf("The module keeps running. %s To disable it all the same, annotate its ModuleConfig with %s=true.",
			m.Definition.Disable.Warning(), ConfirmationAnnotation),
	}
}

func (m Module) newestSettings(request Request, last Accepted) (map[string]any, error) {
	version := request.Version
	if version == 0 {
		if len(request.Settings) > 0 {
			return nil, fmt.Errorf("spec.version: is required beside spec.settings: set it to %d", m.Converter.Latest())
		}
		version = m.Converter.Latest()
	}
	converted, err := m.Converter.ToLatest(version, request.Settings)
	if err != nil {
		return nil, err
	}
	if err := m.Schema.Check(converted); err != nil {
		return converted, err
	}
	// What runs already is not asked about again: the answer would change nothing.
	if m.Check == nil || (last.Enabled && reflect.DeepEqual(converted, last.Settings)) {
		return converted, nil
	}
	return converted, m.Check(converted)
}

// advice is what Deckhouse tells about settings of an old version, which go on working.
func (m Module) advice(request Request) string {
	latest := m.Converter.Latest()
	if request.Version == 0 || request.Version == latest {
		return ""
	}
	return fmt.Sprintf("Settings of version %d are converted to version %d, the newest one.", request.Version, latest)
}

func refusedSettings(err error, last Accepted) string {
	text := "Settings refused: " + err.Error() + "."
	if last.Enabled {
		return text + " The module keeps running with the settings it had; correct the field and apply again."
	}
	return text + " The module stays off; correct the field and apply again."
}
