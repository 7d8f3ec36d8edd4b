// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render renders the module's chart the way Helm does, with values as Deckhouse gives them.
package render

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Root is the folder of the module package. Tests run in the folder of their
// package; the place of this file would not be known in a build with -trimpath.
func Root() string { return filepath.Join("..", "..") }

// LoadChart reads the chart from the module package, leaving out what .helmignore names.
func LoadChart() (*chart.Chart, error) {
	return loader.Load(Root())
}

// Object is a rendered object and the template it came from.
type Object struct {
	*unstructured.Unstructured
	Template string
}

// Render renders the chart for a case and returns every object, ordered by template.
func Render(loaded *chart.Chart, c Case) ([]Object, error) {
	release := chartutil.ReleaseOptions{Name: loaded.Name(), Namespace: "d8-system", IsInstall: true, Revision: 1}
	merged, err := chartutil.ToRenderValues(loaded, c.Values(), release, c.capabilities())
	if err != nil {
		return nil, fmt.Errorf("merge values: %w", err)
	}
	files, err := engine.Render(loaded, merged)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}

	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)

	var objects []Object
	for _, name := range names {
		decoded, err := decode(files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, object := range decoded {
			objects = append(objects, Object{Unstructured: object, Template: strings.TrimPrefix(name, loaded.Name()+"/")})
		}
	}
	return objects, nil
}

// decode splits a rendered file into its documents; empty ones are left out as Helm does.
func decode(file string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(file), 4096)
	for {
		content := map[string]any{}
		err := decoder.Decode(&content)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(objects)+1, err)
		}
		if len(content) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: content})
		}
	}
}
