// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/lookup"
)

// classSettings are what the settings say about the classes of disks, or of images.
type classSettings struct {
	// path is where users find them.
	path     string
	standard string
	allowed  []string
}

// StorageClasses refuses classes that the cluster does not have, and a default that is not allowed.
func StorageClasses(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	var wanted []classSettings
	for _, path := range []string{"virtualDisks", "virtualImages"} {
		each := classSettings{path: path, standard: input.Settings.Get(path + ".defaultStorageClassName").String()}
		for _, name := range input.Settings.Get(path + ".allowedStorageClassSelector.matchNames").Array() {
			each.allowed = append(each.allowed, name.String())
		}
		if each.standard != "" || len(each.allowed) > 0 {
			wanted = append(wanted, each)
		}
	}
	if len(wanted) == 0 {
		return settingscheck.Allow()
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return verdict(err)
	}
	existing, err := classNames(ctx, cluster)
	if err != nil {
		return verdict(err)
	}
	var problems []error
	for _, each := range wanted {
		problems = append(problems, judgeClasses(each, existing))
	}
	return verdict(problems...)
}

func classNames(ctx context.Context, cluster lookup.Cluster) ([]string, error) {
	classes, err := cluster.List(ctx, lookup.StorageClasses)
	names := make([]string, 0, len(classes))
	for i := range classes {
		names = append(names, classes[i].GetName())
	}
	slices.Sort(names)
	return names, err
}

func judgeClasses(wanted classSettings, existing []string) error {
	var problems []string
	if wanted.standard != "" {
		problems = append(problems, missingClass(wanted.path+".defaultStorageClassName", wanted.standard, existing))
		if len(wanted.allowed) > 0 && !slices.Contains(wanted.allowed, wanted.standard) {
			problems = append(problems, fmt.Sprintf("%s.defaultStorageClassName: %s is not among those of allowedStorageClassSelector.matchNames: "+
				"add it there, or choose one of %s", wanted.path, wanted.standard, strings.Join(wanted.allowed, ", ")))
		}
	}
	for _, name := range wanted.allowed {
		problems = append(problems, missingClass(wanted.path+".allowedStorageClassSelector.matchNames", name, existing))
	}
	problems = slices.DeleteFunc(problems, func(text string) bool { return text == "" })
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// missingClass says what to do about a class that does not exist; empty if it does.
func missingClass(path, name string, existing []string) string {
	switch {
	case slices.Contains(existing, name):
		return ""
	case len(existing) == 0:
		return fmt.Sprintf("%s: there is no StorageClass %s, nor any other: create it first", path, name)
	}
	return fmt.Sprintf("%s: there is no StorageClass %s: create it first, or choose one of %s", path, name, strings.Join(existing, ", "))
}
