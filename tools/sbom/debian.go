// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// debianPackage is one binary package. The licences are the names that its copyright
// file uses, sorted and joined by commas; empty when the file has no form that can
// be read.
type debianPackage struct {
	name, version string
	licences      string
	// copyright is the text of the copyright file.
	copyright string
}

// documents is where every Debian package describes itself. Packages in the module's
// images are unpacked and not installed, so dpkg knows nothing of them.
const documents = "usr/share/doc"

// document is what a package, or the one that it shares its folder with, has there.
type document struct {
	// link is the package whose folder this is.
	link string
	// files are the files that are needed, by name.
	files map[string][]byte
}

// changelogs has in its first line the version: that of a rebuild for one
// architecture, of Debian's packaging, of a project that is Debian's own.
var changelogs = []string{"changelog.Debian.amd64.gz", "changelog.Debian.gz", "changelog.gz"}

var (
	firstEntry = regexp.MustCompile(`^\S+ \(([^)]+)\)`)
	licenceOf  = regexp.MustCompile(`(?m)^License:[ \t]*(\S.*)$`)
	formatOf   = regexp.MustCompile(`(?m)^Format:.*copyright-format`)
)

// readDebian lists the packages of a root, a folder or a tar, by name.
func readDebian(root string) ([]debianPackage, error) {
	found, err := readDocuments(root)
	if err != nil {
		return nil, err
	}
	var packages []debianPackage
	for name, entry := range found {
		shared := entry
		if entry.link != "" {
			shared = found[entry.link]
		}
		one, err := describe(name, shared)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", name, err)
		}
		packages = append(packages, one)
	}
	if len(packages) == 0 {
		return nil, errors.New("has no Debian packages")
	}
	slices.SortFunc(packages, func(a, b debianPackage) int { return strings.Compare(a.name, b.name) })
	return packages, nil
}

func describe(name string, entry document) (debianPackage, error) {
	p := debianPackage{name: name, copyright: string(entry.files["copyright"])}
	for _, changelog := range changelogs {
		content := entry.files[changelog]
		if content == nil {
			continue
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return p, err
		}
		line, err := bufio.NewReader(unpacked).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return p, err
		}
		if match := firstEntry.FindStringSubmatch(line); match != nil {
			p.version = match[1]
			break
		}
	}
	if p.version == "" || p.copyright == "" {
		return p, fmt.Errorf("its %s tells no version or no copyright", documents)
	}
	p.licences = debianLicences(p.copyright)
	return p, nil
}

// debianLicences are the short names in a copyright file that machines can read.
func debianLicences(copyright string) string {
	if !formatOf.MatchString(copyright) {
		return ""
	}
	var names []string
	for _, match := range licenceOf.FindAllStringSubmatch(copyright, -1) {
		names = append(names, strings.TrimSpace(match[1]))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// readDocuments collects the folders of all packages.
func readDocuments(root string) (map[string]document, error) {
	found := map[string]document{}
	take := func(name, link string, content []byte) {
		relative, inside := strings.CutPrefix(path.Clean(name), documents+"/")
		if !inside {
			return
		}
		folder, file, deeper := strings.Cut(relative, "/")
		switch {
		case link != "" && !deeper:
			found[folder] = document{link: path.Base(link)}
		case file == "copyright" || slices.Contains(changelogs, file):
			if found[folder].files == nil {
				found[folder] = document{files: map[string][]byte{}}
			}
			found[folder].files[file] = content
		}
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return found, walkFolder(root, take)
	}
	return found, walkTar(root, take)
}

func walkTar(file string, take func(name, link string, content []byte)) error {
	archive, err := os.Open(filepath.Clean(file))
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	reader := tar.NewReader(archive)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var content []byte
		name := path.Clean(header.Name)
		if header.Typeflag == tar.TypeReg && strings.HasPrefix(name, documents+"/") {
			if content, err = io.ReadAll(reader); err != nil {
				return err
			}
		}
		take(name, header.Linkname, content)
	}
}

func walkFolder(root string, take func(name, link string, content []byte)) error {
	return filepath.WalkDir(filepath.Join(root, documents), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(file)
			take(name, link, nil)
			return err
		}
		content, err := os.ReadFile(filepath.Clean(file))
		take(name, "", content)
		return err
	})
}
