// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// FileName is the name of the definition inside an image's folder.
const FileName = "image.yaml"

// Definition says what one image holds and how a container of it starts.
// The sandbox and werf read the same file, so an image is defined once.
type Definition struct {
	// Name is the name of the folder.
	Name string `json:"-"`
	// Dir is the folder, for the files that lie beside the definition.
	Dir string `json:"-"`

	// Description says in one line what the image is for.
	Description string `json:"description"`
	// Base names the image whose layers come first; empty means an empty root.
	Base string `json:"base,omitempty"`
	// BaseOnly marks an image that others start from and nobody runs.
	BaseOnly bool `json:"baseOnly,omitempty"`
	// Debian is a layer of unpacked Debian packages.
	Debian *Debian `json:"debian,omitempty"`
	// Build lists the programs that are compiled into the image.
	Build []Build `json:"build,omitempty"`
	// Files lists files copied as they are.
	Files []File `json:"files,omitempty"`
	// Directories lists folders that must exist.
	Directories []Directory `json:"directories,omitempty"`
	// Links lists symbolic links.
	Links []Link `json:"links,omitempty"`
	// Users makes /etc/passwd and /etc/group.
	Users []User `json:"users,omitempty"`
	// Groups lists groups beside those of the users.
	Groups []Group `json:"groups,omitempty"`
	// Config is how a container of the image starts.
	Config Config `json:"config,omitempty"`
}

// Debian describes a root file system of Debian packages. The packages and all
// that they depend on are unpacked; their maintainer scripts do not run.
type Debian struct {
	// Suite is the release, such as trixie.
	Suite string `json:"suite"`
	// Packages are the packages wanted.
	Packages []string `json:"packages"`
	// Keep, when given, drops every path that matches none of these globs.
	Keep []string `json:"keep,omitempty"`
	// Exclude drops the paths, and all below them, that match one of these globs.
	Exclude []string `json:"exclude,omitempty"`
	// CABundle lists files that get all certificates of ca-certificates joined,
	// which its maintainer script would have written.
	CABundle []string `json:"caBundle,omitempty"`
}

// Build is one program: a Go command or a single C file.
type Build struct {
	// Module is the folder of the Go module, relative to the repository.
	Module string `json:"module"`
	// Package is the Go command: an import path or ./relative to the module.
	Package string `json:"package,omitempty"`
	// CSource is a C file of a module that Module requires, compiled statically.
	CSource string `json:"cSource,omitempty"`
	// Path is where the program lies in the image.
	Path string `json:"path"`
	// Capabilities are file capabilities, such as net_bind_service.
	Capabilities []string `json:"capabilities,omitempty"`
}

// File is one file copied from the image's folder or from a Go module.
type File struct {
	// Module, when given, says that Source is a file of a module it requires.
	Module string `json:"module,omitempty"`
	// Source is the file to copy.
	Source string `json:"source"`
	// Path is where the file lies in the image.
	Path string `json:"path"`
	// Mode is octal, 0644 when not given.
	Mode string `json:"mode,omitempty"`
	// Owner is uid:gid, 0:0 when not given.
	Owner string `json:"owner,omitempty"`
}

// Directory is one folder of the image.
type Directory struct {
	Path string `json:"path"`
	// Mode is octal, 0755 when not given.
	Mode string `json:"mode,omitempty"`
	// Owner is uid:gid, 0:0 when not given.
	Owner string `json:"owner,omitempty"`
}

// Link is one symbolic link of the image.
type Link struct {
	Path string `json:"path"`
	// Target is what the link holds, relative or absolute.
	Target string `json:"target"`
}

// User is an account and the group of the same name and number.
type User struct {
	Name string `json:"name"`
	ID   int    `json:"id"`
	// Home is /nonexistent when not given.
	Home string `json:"home,omitempty"`
	// Shell is /sbin/nologin when not given.
	Shell string `json:"shell,omitempty"`
}

// Group is a group without an account.
type Group struct {
	Name string `json:"name"`
	ID   int    `json:"id"`
}

// Config is how a container of the image starts unless its pod says otherwise.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	// User is uid:gid, root when not given.
	User string `json:"user,omitempty"`
	// Env holds NAME=value.
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
}

// Load reads and checks one definition.
func Load(file string) (*Definition, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	definition := &Definition{Dir: filepath.Dir(file)}
	definition.Name = filepath.Base(definition.Dir)
	document, err := yaml.YAMLToJSONStrict(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// Unlike encoding/json this decoder names the whole path of a field that it
	// does not know, and takes no field whose case differs.
	unknown, err := kjson.UnmarshalStrict(document, definition)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%s: %w", file, unknown[0])
	}
	if err := definition.validate().ToAggregate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return definition, nil
}

// parseMode reads an octal mode.
func parseMode(text string, fallback int64) (int64, error) {
	if text == "" {
		return fallback, nil
	}
	return strconv.ParseInt(text, 8, 64)
}

// parseOwner reads uid:gid.
func parseOwner(text string) (uid, gid int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	first, second, found := strings.Cut(text, ":")
	if !found {
		return 0, 0, fmt.Errorf("%q is not uid:gid", text)
	}
	if uid, err = strconv.Atoi(first); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(second)
	return uid, gid, err
}
