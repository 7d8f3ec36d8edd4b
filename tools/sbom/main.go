// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sbom writes what each image of the module is made of, as CycloneDX, and the
// licences of all of it in one file. It fails when a Go module has a licence that does
// not allow to ship it.
// With -release it also fails when oss.yaml names other versions of Debian's packages.
//
//	sbom -root ../.. -programs .=DIR -programs third_party/kubevirt=DIR -debian base-engine=root.tar FOLDER
//
// With -program it writes the licences for a program that is in no image.
//
//	sbom -program d8v FOLDER
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	t := tool{programs: paths{}, debian: paths{}}
	flag.StringVar(&t.root, "root", ".", "root of the repository")
	flag.Var(t.programs, "programs", "MODULE=FOLDER: where the commands of a Go module are; once for each module")
	flag.BoolVar(&t.release, "release", false, "fail where oss.yaml names another version of a Debian package than the images have; else that is only said")
	flag.Var(t.debian, "debian", "IMAGE=ROOT: the Debian root of an image, a folder or a tar; once for each image that has one")
	flag.StringVar(&t.program, "program", "", "a compiled program: write only the licences of what it is linked to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := t.run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// paths is a flag that is given several times, as NAME=PATH.
type paths map[string]string

// String implements flag.Value.
func (p paths) String() string { return fmt.Sprint(map[string]string(p)) }

// Set implements flag.Value.
func (p paths) Set(value string) error {
	name, path, found := strings.Cut(value, "=")
	if !found || name == "" || path == "" {
		return fmt.Errorf("%q is not NAME=PATH", value)
	}
	p[name] = path
	return nil
}

// tool is one run of the command.
type tool struct {
	root     string
	programs paths
	debian   paths
	// release is what is published: all that is said of it has to be right.
	release bool
	// program is shipped by itself; empty for the images.
	program string
}

func (t tool) run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("say into which folder to write")
	}
	if t.program != "" {
		return t.noticesOf(ctx, t.program, args[0])
	}
	definitions, err := loadDefinitions(filepath.Join(t.root, "images"))
	if err != nil {
		return err
	}
	version, err := moduleVersion(t.root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	c := &collector{tool: t, definitions: definitions, modules: newModules(ctx), roots: map[string][]debianPackage{}}
	shipped := inventory{}
	for _, name := range definitions.names() {
		contents, err := c.contents(name)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		shipped.merge(contents)
		if definitions[name].BaseOnly {
			continue
		}
		if err := writeBOM(filepath.Join(args[0], name+".cdx.json"), name, definitions[name].Description, version, contents); err != nil {
			return err
		}
	}
	if err := checkLicences(shipped); err != nil {
		return err
	}
	if err := t.checkOSS(shipped); err != nil {
		return err
	}
	return writeNotices(filepath.Join(args[0], noticesFile), shipped)
}

// noticesOf writes the licences of what one program is linked to.
func (t tool) noticesOf(ctx context.Context, program, folder string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	shipped := inventory{modules: map[goModule]licence{}}
	c := &collector{tool: t, modules: newModules(ctx)}
	if err := c.addModules(&shipped, linkedModules(info)); err != nil {
		return err
	}
	if err := checkLicences(shipped); err != nil {
		return err
	}
	return writeNotices(filepath.Join(folder, noticesFile), shipped)
}

// checkOSS compares oss.yaml with what Debian's packages are today.
func (t tool) checkOSS(shipped inventory) error {
	problems, err := t.outdated(shipped)
	if err != nil || len(problems) == 0 {
		return err
	}
	if t.release {
		return errors.New(strings.Join(problems, "; "))
	}
	fmt.Fprintln(os.Stderr, "before the next release:", strings.Join(problems, "; "))
	return nil
}
