// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// noticesFile has the licences of everything that the images hold.
const noticesFile = "THIRD_PARTY_NOTICES.txt"

// debianSuite is what the packages of all images are of.
const debianSuite = "debian-13"

// writeBOM writes what one image is made of. The same image gives the same file: it
// has neither a time nor a random number.
func writeBOM(file, name, description, version string, contents inventory) error {
	bom := cdx.NewBOM()
	self := cdx.Component{
		BOMRef: "image:" + name, Type: cdx.ComponentTypeContainer, Name: "virtualization/" + name, Version: version, Description: description,
		Licenses: expression("Apache-2.0"),
	}
	bom.Metadata = &cdx.Metadata{Component: &self}
	var components []cdx.Component
	var direct []string
	dependencies := []cdx.Dependency{}
	for _, p := range contents.programs {
		component := cdx.Component{BOMRef: "file:" + p.path, Type: cdx.ComponentTypeApplication, Name: path.Base(p.path)}
		components = append(components, component)
		direct = append(direct, component.BOMRef)
		var linked []string
		for _, one := range p.modules {
			linked = append(linked, moduleURL(one))
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: component.BOMRef, Dependencies: &linked})
	}
	for _, one := range contents.sortedModules() {
		components = append(components, cdx.Component{
			BOMRef: moduleURL(one), PackageURL: moduleURL(one), Type: cdx.ComponentTypeLibrary, Name: one.path, Version: one.version,
			Licenses: identifiers(contents.modules[one].ids),
		})
	}
	for _, p := range contents.sortedPackages() {
		components = append(components, cdx.Component{
			BOMRef: packageURL(p), PackageURL: packageURL(p), Type: cdx.ComponentTypeLibrary, Name: p.name, Version: p.version,
			Licenses: names(p.licences),
		})
		direct = append(direct, packageURL(p))
	}
	dependencies = slices.Insert(dependencies, 0, cdx.Dependency{Ref: self.BOMRef, Dependencies: &direct})
	bom.Components, bom.Dependencies = &components, &dependencies
	return create(file, func(out *bufio.Writer) error {
		return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
}

func moduleURL(one goModule) string { return "pkg:golang/" + one.String() }

// packageURL escapes what Debian's versions have and URLs do not.
func packageURL(p debianPackage) string {
	version := strings.NewReplacer(":", "%3A", "+", "%2B").Replace(p.version)
	return "pkg:deb/debian/" + strings.ReplaceAll(p.name, "+", "%2B") + "@" + version + "?distro=" + debianSuite
}

func expression(text string) *cdx.Licenses { return &cdx.Licenses{{Expression: text}} }

// identifiers are licences under the names of SPDX.
func identifiers(ids string) *cdx.Licenses {
	return expression(strings.ReplaceAll(ids, ", ", " AND "))
}

// names are licences under other names.
func names(joined string) *cdx.Licenses {
	if joined == "" {
		return nil
	}
	var out cdx.Licenses
	for _, name := range strings.Split(joined, ", ") {
		out = append(out, cdx.LicenseChoice{License: &cdx.License{Name: name}})
	}
	return &out
}

// writeNotices writes the licences of everything, each text once with all that it
// belongs to.
func writeNotices(file string, shipped inventory) error {
	owners := map[string][]string{}
	for _, one := range shipped.sortedModules() {
		owners[shipped.modules[one].text] = append(owners[shipped.modules[one].text], "Go module "+one.String())
	}
	for _, p := range shipped.sortedPackages() {
		owners[p.copyright] = append(owners[p.copyright], "Debian package "+p.name+" "+p.version)
	}
	texts := make([]string, 0, len(owners))
	for text := range owners {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Compare(owners[a][0], owners[b][0]) })
	return create(filepath.Clean(file), func(out *bufio.Writer) error {
		for _, text := range texts {
			rule := strings.Repeat("=", 80)
			if _, err := fmt.Fprintf(out, "%s\n%s\n%s\n\n%s\n\n", rule, strings.Join(owners[text], "\n"), rule, strings.TrimSpace(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

func create(name string, write func(*bufio.Writer) error) error {
	file, err := os.Create(filepath.Clean(name))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	err = write(out)
	return cmp.Or(err, out.Flush(), file.Close())
}
