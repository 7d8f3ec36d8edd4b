// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// language has the words of a page that are not descriptions. Some are formats: words/en.yaml shows what for.
type language struct {
	Summary           string            `yaml:"summary"`
	Generated         string            `yaml:"generated"`
	Scope             string            `yaml:"scope"`
	Scopes            map[string]string `yaml:"scopes"`
	ShortNames        string            `yaml:"shortNames"`
	Statuses          string            `yaml:"statuses"`
	Field             string            `yaml:"field"`
	Kind              string            `yaml:"kind"`
	Description       string            `yaml:"description"`
	Message           string            `yaml:"message"`
	Required          string            `yaml:"required"`
	ByDefault         string            `yaml:"byDefault"`
	OneOf             string            `yaml:"oneOf"`
	Minimum           string            `yaml:"minimum"`
	Maximum           string            `yaml:"maximum"`
	MaxLength         string            `yaml:"maxLength"`
	MinItems          string            `yaml:"minItems"`
	MaxItems          string            `yaml:"maxItems"`
	Refused           string            `yaml:"refused"`
	RefusedText       string            `yaml:"refusedText"`
	Columns           string            `yaml:"columns"`
	Column            string            `yaml:"column"`
	Shown             string            `yaml:"shown"`
	Always            string            `yaml:"always"`
	ConditionsTitle   string            `yaml:"conditionsTitle"`
	ConditionsSummary string            `yaml:"conditionsSummary"`
	ConditionsText    string            `yaml:"conditionsText"`
	ConditionsHead    string            `yaml:"conditionsHead"`
	ReasonsHead       string            `yaml:"reasonsHead"`
	Condition         string            `yaml:"condition"`
	Reason            string            `yaml:"reason"`
	Meaning           string            `yaml:"meaning"`
}

// readLanguage reads the words of one language and refuses a file that lacks some.
func readLanguage(path string) (language, error) {
	var l language
	data, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&l); err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	value := reflect.ValueOf(l)
	for i := range value.NumField() {
		if value.Field(i).Len() == 0 {
			return l, fmt.Errorf("%s: no %s", path, value.Type().Field(i).Tag.Get("yaml"))
		}
	}
	return l, nil
}
