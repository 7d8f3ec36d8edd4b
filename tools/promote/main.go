// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command promote brings versions of the module to Deckhouse's release channels, and makes the files of a release image.
//
//	promote -registry REGISTRY/modules/virtualization status
//	promote -registry ... check v1.2.3 Stable
//	promote -registry ... perform v1.2.3 Stable
//	promote files FOLDER
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	address := flag.String("registry", "", "where the module is published, for example registry.example.com/modules/virtualization")
	flag.Parse()
	t := tool{root: *root, address: *address, now: time.Now().UTC(), out: os.Stdout}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := t.run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "promote:", err)
		os.Exit(1)
	}
}

// tool is one run of the command.
type tool struct {
	root, address string
	now           time.Time
	out           io.Writer
}

func (t tool) run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "files":
		return writeFiles(t.root, args[1])
	case len(args) == 1 && args[0] == "status":
		return t.status(ctx)
	case len(args) == 3 && (args[0] == "check" || args[0] == "perform"):
		return t.promote(ctx, args[1], args[2], args[0] == "perform")
	}
	return errors.New("say one of: status; check VERSION CHANNEL; perform VERSION CHANNEL; files FOLDER")
}

// status prints what each channel has.
func (t tool) status(ctx context.Context) error {
	r, err := openRegistry(ctx, t.address)
	if err != nil {
		return err
	}
	for _, c := range channels {
		held, err := r.version(c.Tag)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%-12s %s\n", c.Name, orNothing(held))
	}
	return nil
}

func (t tool) promote(ctx context.Context, version, channelName string, perform bool) error {
	index, err := findChannel(channelName)
	if err != nil {
		return err
	}
	r, err := openRegistry(ctx, t.address)
	if err != nil {
		return err
	}
	f, err := t.observe(r, version, index)
	if err != nil {
		return err
	}
	if problems := check(f); len(problems) > 0 {
		return fmt.Errorf("%s cannot come to %s:\n  - %s", version, channels[index].Name, strings.Join(problems, "\n  - "))
	}
	c := channels[index]
	switch {
	case f.Held[c.Tag] == version:
		fmt.Fprintf(t.out, "%s has %s already\n", c.Name, version)
	case !perform:
		fmt.Fprintf(t.out, "%s may come to %s, which has %s\n", version, c.Name, orNothing(f.Held[c.Tag]))
	default:
		if err := r.promote(version, c); err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s has %s now; it had %s\n", c.Name, version, orNothing(f.Held[c.Tag]))
	}
	return nil
}

// observe gathers what a decision needs.
func (t tool) observe(r *registry, version string, index int) (facts, error) {
	f := facts{Version: version, Channel: index, Now: t.now, Held: map[string]string{}}
	if !versionFormat.MatchString(version) {
		// The rules refuse it; no registry need be asked.
		return f, nil
	}
	var err error
	if f.Released, err = readReleased(t.root, version); err != nil {
		return f, err
	}
	if _, f.Changed, err = readChanges(t.root, version); err != nil {
		return f, err
	}
	if f.Updates, err = readUpdates(t.root); err != nil {
		return f, err
	}
	if f.Bundle, err = r.hasBundle(version); err != nil {
		return f, err
	}
	if f.Bundle {
		if f.Missing, err = r.missingImages(version); err != nil {
			return f, err
		}
	}
	if f.Reported, err = r.version(version); err != nil {
		return f, err
	}
	f.Release = f.Reported != ""
	for _, c := range channels {
		if f.Held[c.Tag], err = r.version(c.Tag); err != nil {
			return f, err
		}
	}
	return f, nil
}
