// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package runtimespec changes what containers ask for before runc sees it. On a
// machine whose root lacks a capability runc cannot grant it to a container
// either and would not start one that asks.
package runtimespec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const capability = "CAP_SYS_RESOURCE"

// Rewrite changes the files that a call of runc with these arguments is about
// to read: the container's specification or that of a process added to it.
func Rewrite(args []string) error {
	bundle, process, starts := parse(args)
	if starts {
		if err := rewrite(filepath.Join(bundle, "config.json"), "process"); err != nil {
			return err
		}
	}
	if process != "" {
		return rewrite(process)
	}
	return nil
}

// parse finds the parts of runc's command line that name files.
func parse(args []string) (bundle, process string, starts bool) {
	bundle = "."
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "--bundle", "-b":
			bundle = value
		case "--process", "-p":
			process = value
		case "create", "run":
			starts = true
		}
	}
	return bundle, process, starts
}

// rewrite takes the capability out of the process found under the given keys of
// a JSON file, and leaves everything else as it is.
func rewrite(file string, keys ...string) error {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		// runc itself says best what is wrong with it.
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte(capability)) {
		return nil
	}
	var spec map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	// Identifiers and limits are larger than a float can hold exactly.
	decoder.UseNumber()
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	process := spec
	for _, key := range keys {
		process, _ = process[key].(map[string]any)
	}
	dropCapability(process)
	out, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return replace(file, out)
}

// dropCapability takes the capability out of all five sets.
func dropCapability(process map[string]any) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, value := range sets {
		list, _ := value.([]any)
		kept := make([]any, 0, len(list))
		for _, c := range list {
			if c != capability {
				kept = append(kept, c)
			}
		}
		sets[name] = kept
	}
}

func replace(file string, data []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	tmp := file + ".sandbox"
	if err := os.WriteFile(tmp, data, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
