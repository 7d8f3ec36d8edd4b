// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// certificateGlob is where ca-certificates keeps what a bundle is joined from.
const certificateGlob = "usr/share/ca-certificates/mozilla/*.crt"

// setIDs are the bits of a mode that run a program as its owner or group.
const setIDs = 0o6000

// debianLayer filters the tar of a Debian root into a layer's content. It also
// returns the folders of the layer, which upper layers leave alone.
func debianLayer(debian *Debian, root string) (content, map[string]bool, error) {
	directories := map[string]bool{}
	var certificates bytes.Buffer
	err := eachMember(root, func(header *tar.Header, body io.Reader) error {
		name := trimSlash(header.Name)
		if matched, _ := doublestar.Match(certificateGlob, name); matched {
			if _, err := io.Copy(&certificates, body); err != nil {
				return err
			}
		}
		if header.Typeflag == tar.TypeDir && debian.wants(name) {
			directories[name] = true
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(debian.CABundle) > 0 && certificates.Len() == 0 {
		return nil, nil, errors.New("debian.caBundle: the root has no certificates: add the package ca-certificates")
	}
	var bundles []entry
	for _, name := range debian.CABundle {
		bundles = append(bundles, contentEntry(name, certificates.Bytes(), 0o644))
	}
	bundles = withParents(bundles, directories)
	sortEntries(bundles)
	return func(archive *tar.Writer) error {
		if err := copyMembers(debian, root, archive); err != nil {
			return err
		}
		return writeEntries(bundles)(archive)
	}, directories, nil
}

// copyMembers writes the wanted members of a root in their order, which
// mmdebstrap keeps sorted, without times and names of accounts.
func copyMembers(debian *Debian, root string, archive *tar.Writer) error {
	return eachMember(root, func(header *tar.Header, body io.Reader) error {
		name := trimSlash(header.Name)
		if name == "" || !debian.wants(name) {
			return nil
		}
		e := entry{header: tar.Header{
			// No program in a container may gain rights by its owner or group.
			Typeflag: header.Typeflag, Name: name, Linkname: header.Linkname, Mode: header.Mode &^ setIDs,
			Uid: header.Uid, Gid: header.Gid, Size: header.Size,
		}}
		switch header.Typeflag {
		case tar.TypeReg:
			e.open = func() (io.ReadCloser, error) { return io.NopCloser(body), nil }
		case tar.TypeDir:
			e.header.Name += "/"
		case tar.TypeSymlink:
		case tar.TypeLink:
			e.header.Linkname = trimSlash(header.Linkname)
			if !debian.wants(e.header.Linkname) {
				return fmt.Errorf("%s is a hard link to %s, which debian.exclude drops: drop both", name, e.header.Linkname)
			}
		default:
			// Devices and the like: the container runtime brings its own.
			return nil
		}
		return e.write(archive)
	})
}

// wants tells whether a path of the root becomes part of the layer.
func (d *Debian) wants(name string) bool {
	for at := name; at != "."; at = path.Dir(at) {
		if matchesAny(d.Exclude, at) {
			return false
		}
	}
	if len(d.Keep) == 0 {
		return true
	}
	for at := name; at != "."; at = path.Dir(at) {
		if matchesAny(d.Keep, at) {
			return true
		}
	}
	return false
}

func matchesAny(globs []string, name string) bool {
	for _, glob := range globs {
		if strings.TrimSuffix(glob, "/") == name {
			return true
		}
		if matched, _ := doublestar.Match(glob, name); matched {
			return true
		}
	}
	return false
}

func eachMember(file string, visit func(*tar.Header, io.Reader) error) error {
	source, err := os.Open(file)
	if err != nil {
		return err
	}
	defer source.Close()
	archive := tar.NewReader(source)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		if err := visit(header, archive); err != nil {
			return err
		}
	}
}
