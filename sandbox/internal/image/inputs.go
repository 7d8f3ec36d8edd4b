// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import "context"

// Artifact is a file that goes into an image.
type Artifact struct {
	// Path is where the file is now.
	Path string
	// Key changes whenever the content does, and only then.
	Key string
}

// Program names one Go command.
type Program struct {
	// Module is the folder of its Go module, relative to the repository.
	Module string
	// Package is its import path, or ./relative to the module.
	Package string
}

// Inputs makes what images are assembled from. The builder implements it.
type Inputs interface {
	// Programs compiles Go commands, those of one module together.
	Programs(ctx context.Context, programs []Program) (map[Program]Artifact, error)
	// CProgram compiles one C file of a module that the Go module requires.
	CProgram(ctx context.Context, module, source string) (Artifact, error)
	// ModuleFile finds one file of a module that the Go module requires.
	ModuleFile(ctx context.Context, module, source string) (Artifact, error)
	// PackageRoot unpacks Debian packages into a tar.
	PackageRoot(ctx context.Context, suite string, packages []string) (Artifact, error)
}
