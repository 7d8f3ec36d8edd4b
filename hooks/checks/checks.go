// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package checks answers whoever changes the settings, for what a schema can't tell: whether what they name is there,
// and whether what is there allows it. Deckhouse asks before a ModuleConfig is stored, with the settings of the newest
// version, as they were written: defaults of the schema may be missing.
package checks

import (
	"context"
	"slices"
	"strings"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"
)

// All makes one check of several. It gives all refusals at once, so that nobody has to correct one mistake after the
// other.
func All(checks ...settingscheck.Check) settingscheck.Check {
	return func(ctx context.Context, input settingscheck.Input) settingscheck.Result {
		var refusals, warnings []string
		for _, check := range checks {
			result := check(ctx, input)
			// A cluster that gives no answer gives none to any of them.
			if !result.Valid && !slices.Contains(refusals, result.Message) {
				refusals = append(refusals, result.Message)
			}
			warnings = append(warnings, result.Warnings...)
		}
		if len(refusals) > 0 {
			return settingscheck.Reject(strings.Join(refusals, "; "))
		}
		return settingscheck.Allow(warnings...)
	}
}

// verdict is the answer of a check that found these errors.
func verdict(problems ...error) settingscheck.Result {
	var texts []string
	for _, problem := range problems {
		if problem != nil {
			texts = append(texts, problem.Error())
		}
	}
	if len(texts) > 0 {
		return settingscheck.Reject(strings.Join(texts, "; "))
	}
	return settingscheck.Allow()
}
