// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	ownerPattern = regexp.MustCompile(`^[0-9]+:[0-9]+$`)
	modePattern  = regexp.MustCompile(`^[0-7]{4}$`)
)

// validate finds everything that is wrong with a definition by itself; what
// concerns other definitions too is checked by the Set.
func (d *Definition) validate() field.ErrorList {
	var errs field.ErrorList
	if !namePattern.MatchString(d.Name) {
		errs = append(errs, field.Invalid(field.NewPath("name"), d.Name, "name the folder with lower case words joined by dashes"))
	}
	if d.Description == "" {
		errs = append(errs, field.Required(field.NewPath("description"), "say in one line what the image is for"))
	}
	errs = append(errs, d.validateDebian()...)
	for i, program := range d.Build {
		errs = append(errs, program.validate(field.NewPath("build").Index(i))...)
	}
	for i, file := range d.Files {
		errs = append(errs, file.validate(field.NewPath("files").Index(i))...)
	}
	for i, dir := range d.Directories {
		at := field.NewPath("directories").Index(i)
		errs = append(errs, validatePath(at.Child("path"), dir.Path)...)
		errs = append(errs, validateRights(at, dir.Mode, dir.Owner)...)
	}
	for i, link := range d.Links {
		at := field.NewPath("links").Index(i)
		errs = append(errs, validatePath(at.Child("path"), link.Path)...)
		if link.Target == "" {
			errs = append(errs, field.Required(at.Child("target"), "say where the link leads"))
		}
	}
	errs = append(errs, d.validateUsers()...)
	errs = append(errs, d.validateConfig()...)
	return append(errs, d.validateUnique()...)
}

func (d *Definition) validateDebian() field.ErrorList {
	if d.Debian == nil {
		return nil
	}
	at := field.NewPath("debian")
	var errs field.ErrorList
	if d.Base != "" {
		errs = append(errs, field.Forbidden(at, "packages make a root file system of their own: leave out base"))
	}
	if d.Debian.Suite == "" {
		errs = append(errs, field.Required(at.Child("suite"), "name a Debian release, such as trixie"))
	}
	if len(d.Debian.Packages) == 0 {
		errs = append(errs, field.Required(at.Child("packages"), "name at least one package"))
	}
	for name, globs := range map[string][]string{"keep": d.Debian.Keep, "exclude": d.Debian.Exclude} {
		for i, glob := range globs {
			if !doublestar.ValidatePattern(glob) || path.IsAbs(glob) {
				errs = append(errs, field.Invalid(at.Child(name).Index(i), glob, "write a glob without a leading slash"))
			}
		}
	}
	for i, bundle := range d.Debian.CABundle {
		errs = append(errs, validatePath(at.Child("caBundle").Index(i), bundle)...)
	}
	return errs
}

func (b Build) validate(at *field.Path) field.ErrorList {
	errs := validatePath(at.Child("path"), b.Path)
	if b.Module == "" {
		errs = append(errs, field.Required(at.Child("module"), "name the folder of the Go module"))
	}
	if (b.Package == "") == (b.CSource == "") {
		errs = append(errs, field.Invalid(at.Child("package"), b.Package, "give either package or cSource"))
	}
	for i, name := range b.Capabilities {
		if _, known := capabilityBits[name]; !known {
			errs = append(errs, field.NotSupported(at.Child("capabilities").Index(i), name, knownCapabilities()))
		}
	}
	return errs
}

func (f File) validate(at *field.Path) field.ErrorList {
	errs := validatePath(at.Child("path"), f.Path)
	switch {
	case f.Source == "":
		errs = append(errs, field.Required(at.Child("source"), "name the file to copy"))
	case path.IsAbs(f.Source) || slices.Contains(strings.Split(f.Source, "/"), ".."):
		errs = append(errs, field.Invalid(at.Child("source"), f.Source, "stay inside the image's folder or the module"))
	}
	return append(errs, validateRights(at, f.Mode, f.Owner)...)
}

func (d *Definition) validateUsers() field.ErrorList {
	var errs field.ErrorList
	for i, user := range d.Users {
		at := field.NewPath("users").Index(i)
		if user.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "name the account"))
		}
		if user.ID < 0 {
			errs = append(errs, field.Invalid(at.Child("id"), user.ID, "use a number from 0"))
		}
	}
	return errs
}

func (d *Definition) validateConfig() field.ErrorList {
	at := field.NewPath("config")
	var errs field.ErrorList
	switch {
	case d.BaseOnly && len(d.Config.Entrypoint) > 0:
		errs = append(errs, field.Forbidden(at.Child("entrypoint"), "nobody runs an image that is baseOnly"))
	case !d.BaseOnly && len(d.Config.Entrypoint) == 0:
		errs = append(errs, field.Required(at.Child("entrypoint"), "name the program that a container starts, or set baseOnly"))
	case !d.BaseOnly && !path.IsAbs(d.Config.Entrypoint[0]):
		errs = append(errs, field.Invalid(at.Child("entrypoint").Index(0), d.Config.Entrypoint[0], "write an absolute path"))
	}
	if d.Config.User != "" && !ownerPattern.MatchString(d.Config.User) {
		errs = append(errs, field.Invalid(at.Child("user"), d.Config.User, "write uid:gid as numbers, so that runAsNonRoot can be checked"))
	}
	for i, variable := range d.Config.Env {
		if name, _, found := strings.Cut(variable, "="); !found || name == "" {
			errs = append(errs, field.Invalid(at.Child("env").Index(i), variable, "write NAME=value"))
		}
	}
	return errs
}

// validateUnique refuses two entries for one path: which of them would win is
// nothing a reader should have to know.
func (d *Definition) validateUnique() field.ErrorList {
	seen := map[string]bool{}
	var errs field.ErrorList
	check := func(at *field.Path, value string) {
		if value != "" && seen[value] {
			errs = append(errs, field.Duplicate(at, value))
		}
		seen[value] = true
	}
	for i, entry := range d.Build {
		check(field.NewPath("build").Index(i).Child("path"), entry.Path)
	}
	for i, entry := range d.Files {
		check(field.NewPath("files").Index(i).Child("path"), entry.Path)
	}
	for i, entry := range d.Directories {
		check(field.NewPath("directories").Index(i).Child("path"), entry.Path)
	}
	for i, entry := range d.Links {
		check(field.NewPath("links").Index(i).Child("path"), entry.Path)
	}
	return errs
}

func validatePath(at *field.Path, value string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "say where it lies in the image")}
	}
	if !path.IsAbs(value) || path.Clean(value) != value || value == "/" {
		return field.ErrorList{field.Invalid(at, value, "write an absolute path without . or .. or a trailing slash")}
	}
	// Debian's /bin, /lib and /sbin are links into /usr: a folder of that name in
	// an upper layer would replace the link and hide everything behind it.
	switch strings.Split(value, "/")[1] {
	case "bin", "sbin", "lib", "lib64":
		return field.ErrorList{field.Invalid(at, value, "write it under /usr")}
	}
	return nil
}

func validateRights(at *field.Path, mode, owner string) field.ErrorList {
	var errs field.ErrorList
	if mode != "" && !modePattern.MatchString(mode) {
		errs = append(errs, field.Invalid(at.Child("mode"), mode, "write four octal digits in quotes, such as \"0755\""))
	}
	if owner != "" && !ownerPattern.MatchString(owner) {
		errs = append(errs, field.Invalid(at.Child("owner"), owner, "write uid:gid as numbers"))
	}
	return errs
}
