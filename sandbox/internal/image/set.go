// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Set holds all definitions of one folder, by name.
type Set struct {
	definitions map[string]*Definition
}

// LoadSet reads every definition below a folder such as images/.
func LoadSet(dir string) (*Set, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", FileName))
	if err != nil {
		return nil, err
	}
	set := &Set{definitions: map[string]*Definition{}}
	var errs []error
	for _, file := range files {
		definition, err := Load(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		set.definitions[definition.Name] = definition
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return set, set.validate()
}

// Names lists all images in order.
func (s *Set) Names() []string {
	return slices.Sorted(maps.Keys(s.definitions))
}

// Runnable lists the images that containers are started from.
func (s *Set) Runnable() []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool { return s.definitions[name].BaseOnly })
}

// Get returns one definition.
func (s *Set) Get(name string) (*Definition, error) {
	definition, found := s.definitions[name]
	if !found {
		return nil, fmt.Errorf("no image is called %q, there are: %s", name, strings.Join(s.Names(), ", "))
	}
	return definition, nil
}

// Chain returns the definitions whose layers make an image, the lowest first.
func (s *Set) Chain(name string) ([]*Definition, error) {
	definition, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	chain := []*Definition{definition}
	for definition.Base != "" {
		if definition, err = s.Get(definition.Base); err != nil {
			return nil, err
		}
		chain = append(chain, definition)
	}
	slices.Reverse(chain)
	return chain, nil
}

// validate checks what concerns more than one definition. A base may not have a
// base itself: one shared layer is all that is needed, and no cycle can appear.
func (s *Set) validate() error {
	var errs []error
	for _, name := range s.Names() {
		definition := s.definitions[name]
		if definition.Base == "" {
			continue
		}
		file := filepath.Join(definition.Dir, FileName)
		base, found := s.definitions[definition.Base]
		switch {
		case !found:
			errs = append(errs, fmt.Errorf("%s: base: no image is called %q", file, definition.Base))
		case !base.BaseOnly:
			errs = append(errs, fmt.Errorf("%s: base: %q is not marked baseOnly", file, definition.Base))
		case base.Base != "":
			errs = append(errs, fmt.Errorf("%s: base: %q has a base itself", file, definition.Base))
		case definition.BaseOnly:
			errs = append(errs, fmt.Errorf("%s: base: an image that is baseOnly has none", file))
		}
	}
	return errors.Join(errs...)
}

// CamelCase turns an image's name into the key that Deckhouse's values and
// images_digests.json know it by: virt-handler becomes virtHandler.
func CamelCase(name string) string {
	words := strings.Split(name, "-")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}
