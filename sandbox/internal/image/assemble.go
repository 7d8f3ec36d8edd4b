// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Image is one assembled image.
type Image struct {
	// Name is the name of its definition.
	Name string `json:"name"`
	// Digest is that of its manifest, sha256:...
	Digest string `json:"digest"`
	// References are the names under which the archive brings it into containerd.
	References []string `json:"references"`
	// Archive is the OCI archive it is in, with others that share its base.
	Archive string `json:"archive,omitempty"`
}

// Store keeps what was made, by kind, name and key.
type Store interface {
	// Ensure returns the folder kept for the key, made by create if there is none.
	Ensure(ctx context.Context, kind, name, key string, create func(ctx context.Context, dir string) error) (string, error)
}

// Assembler makes images out of definitions.
type Assembler struct {
	Set    *Set
	Inputs Inputs
	Store  Store
	// References names an image for containerd, given its name and digest.
	References func(name, digest string) []string
	// Version is the release that the images are for; empty for none. It is part of
	// their configuration, so each release has digests of its own.
	Version string
	// Progress gets a line for each archive that has to be written.
	Progress func(string)
}

const (
	archiveKind = "images"
	archiveFile = "images.tar"
	listFile    = "images.json"
)

// Assemble makes the images named. Those that share a base go into one archive,
// so that the base is written and imported once.
func (a *Assembler) Assemble(ctx context.Context, names ...string) ([]Image, error) {
	programs, err := a.programs(ctx, names)
	if err != nil {
		return nil, err
	}
	groups, err := a.group(names)
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		made, err := a.archive(ctx, group, groups[group], programs)
		if err != nil {
			return nil, err
		}
		images = append(images, made...)
	}
	slices.SortFunc(images, func(x, y Image) int { return strings.Compare(x.Name, y.Name) })
	return images, nil
}

// programs has all Go commands of the images compiled in one go, which is faster
// than image by image.
func (a *Assembler) programs(ctx context.Context, names []string) (map[Program]Artifact, error) {
	wanted := map[Program]bool{}
	for _, name := range names {
		chain, err := a.Set.Chain(name)
		if err != nil {
			return nil, err
		}
		for _, definition := range chain {
			for _, b := range definition.Build {
				if b.Package != "" {
					wanted[Program{Module: b.Module, Package: b.Package}] = true
				}
			}
		}
	}
	list := slices.SortedFunc(maps.Keys(wanted), func(x, y Program) int {
		return strings.Compare(x.Module+" "+x.Package, y.Module+" "+y.Package)
	})
	return a.Inputs.Programs(ctx, list)
}

// group sorts images by their base; one without a base is alone in its archive.
func (a *Assembler) group(names []string) (map[string][]string, error) {
	groups := map[string][]string{}
	for _, name := range names {
		definition, err := a.Set.Get(name)
		if err != nil {
			return nil, err
		}
		group := definition.Base
		if group == "" {
			group = name
		}
		groups[group] = append(groups[group], name)
	}
	for _, members := range groups {
		slices.Sort(members)
	}
	return groups, nil
}

// archive makes the archive of one group, unless the store has it.
func (a *Assembler) archive(ctx context.Context, group string, names []string, programs map[Program]Artifact) ([]Image, error) {
	all := map[string]*materials{}
	hash := sha256.New()
	if a.Version != "" {
		fmt.Fprintln(hash, "version", a.Version)
	}
	for _, name := range names {
		chain, err := a.Set.Chain(name)
		if err != nil {
			return nil, err
		}
		for _, definition := range chain {
			if all[definition.Name], err = gather(ctx, a.Inputs, definition, programs); err != nil {
				return nil, err
			}
			key, err := all[definition.Name].key()
			if err != nil {
				return nil, err
			}
			// The names given are part of what the archive holds.
			fmt.Fprintln(hash, definition.Name, key, a.References(definition.Name, ""))
		}
	}
	dir, err := a.Store.Ensure(ctx, archiveKind, group, hex.EncodeToString(hash.Sum(nil)), func(_ context.Context, dir string) error {
		a.Progress(fmt.Sprintf("assembling %d images of %s", len(names), group))
		return a.write(dir, names, all)
	})
	if err != nil {
		return nil, err
	}
	return readList(dir)
}

// write assembles the images of one group into a folder.
func (a *Assembler) write(dir string, names []string, all map[string]*materials) error {
	bases := map[string]*base{}
	var archive []named
	var list []Image
	for _, name := range names {
		chain, err := a.Set.Chain(name)
		if err != nil {
			return err
		}
		below, err := baseLayers(bases, chain[:len(chain)-1], all)
		if err != nil {
			return err
		}
		own, _, err := all[name].layers(below.directories)
		if err != nil {
			return err
		}
		img, err := newImage(append(slices.Clone(below.layers), own...), chain[len(chain)-1].Config, a.Version)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		made := Image{Name: name, Digest: digest.String(), References: a.References(name, digest.String())}
		archive = append(archive, named{image: img, names: made.References})
		list = append(list, made)
	}
	if err := writeArchive(filepath.Join(dir, archiveFile), archive); err != nil {
		return err
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, listFile), content, 0o644)
}

// base is what the images of a group share.
type base struct {
	layers      []*layer
	directories map[string]bool
}

// baseLayers makes the layers of a base once.
func baseLayers(made map[string]*base, chain []*Definition, all map[string]*materials) (*base, error) {
	if len(chain) == 0 {
		return &base{}, nil
	}
	definition := chain[0]
	if made[definition.Name] == nil {
		layers, directories, err := all[definition.Name].layers(nil)
		if err != nil {
			return nil, err
		}
		made[definition.Name] = &base{layers: layers, directories: directories}
	}
	return made[definition.Name], nil
}

func readList(dir string) ([]Image, error) {
	content, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		return nil, err
	}
	var images []Image
	if err := json.Unmarshal(content, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, listFile), err)
	}
	for i := range images {
		images[i].Archive = filepath.Join(dir, archiveFile)
	}
	return images, nil
}

// Digests maps the images' names, in the form that Deckhouse uses, to digests;
// it is the content of images_digests.json.
func Digests(images []Image) map[string]string {
	digests := map[string]string{}
	for _, image := range images {
		digests[CamelCase(image.Name)] = image.Digest
	}
	return digests
}
