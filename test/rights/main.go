// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command rights reads from the audit log of a sandbox, after an end-to-end run, which
// rights the module's own programs made use of, and adds them to a list:
//
//	rights -logs DIRECTORY -list FILE
//
// The tests of the chart compare the list with the roles: rights that no run has used are
// taken out, or stay for a reason that is written down there.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// namespace is the module's. What was done there may be allowed by a Role of it.
const namespace = "d8-virtualization"

// header explains the file to whoever opens it.
const header = `# What the module's programs made use of in end-to-end runs: account, where (the module's namespace, or
# anywhere), verb and resource. Made by 'make rights' after 'make e2e'; Leases and Events are not audited.
`

// event is what is needed of a line of the audit log.
type event struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Namespace   string `json:"namespace"`
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Annotations map[string]string `json:"annotations"`
}

func main() {
	logs := flag.String("logs", "", "directory of the audit logs, audit*.log")
	list := flag.String("list", "", "file that the rights are added to")
	flag.Parse()
	if err := run(*logs, *list); err != nil {
		fmt.Fprintln(os.Stderr, "rights:", err)
		os.Exit(1)
	}
}

func run(logs, list string) error {
	files, err := filepath.Glob(filepath.Join(logs, "audit*.log"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("-logs=%s: there is no audit*.log; name the directory of the control plane's node, such as logs/node-1 of the sandbox", logs)
	}
	known, err := os.ReadFile(list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rights := parse(string(known))
	for _, file := range files {
		if err := readFile(file, rights); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return os.WriteFile(list, []byte(format(rights)), 0o644)
}

func readFile(path string, into map[string]bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return read(file, into)
}

// read adds what the lines of an audit log tell. The last line may be half written.
func read(log io.Reader, into map[string]bool) error {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte("system:serviceaccount:"+namespace+":")) {
			continue
		}
		var current event
		if json.Unmarshal(lines.Bytes(), &current) != nil {
			continue
		}
		if right := current.right(); right != "" {
			into[right] = true
		}
	}
	return lines.Err()
}

// right is the line of the list; empty if the event shows none. What was forbidden shows
// no right, and what an object's own admission refused shows one.
func (e event) right() string {
	account, ours := strings.CutPrefix(e.User.Username, "system:serviceaccount:"+namespace+":")
	if !ours || e.ObjectRef == nil || e.ObjectRef.Resource == "" || e.Annotations["authorization.k8s.io/decision"] != "allow" {
		return ""
	}
	// The engines' programs have their roles from the engines.
	if strings.HasPrefix(account, "kubevirt-") || strings.HasPrefix(account, "cdi-") {
		return ""
	}
	// Kubernetes' own roles are not the chart's to change.
	reason := e.Annotations["authorization.k8s.io/reason"]
	if strings.Contains(reason, `Role "system:`) || strings.Contains(reason, `Role "extension-`) {
		return ""
	}
	where := "anywhere"
	if e.ObjectRef.Namespace == namespace {
		where = "module"
	}
	resource := e.ObjectRef.Resource
	if e.ObjectRef.APIGroup != "" {
		resource = e.ObjectRef.APIGroup + "/" + resource
	}
	if e.ObjectRef.Subresource != "" {
		resource += ":" + e.ObjectRef.Subresource
	}
	return strings.Join([]string{account, where, e.Verb, resource}, " ")
}

func parse(list string) map[string]bool {
	rights := map[string]bool{}
	for line := range strings.Lines(list) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			rights[line] = true
		}
	}
	return rights
}

func format(rights map[string]bool) string {
	lines := slices.Sorted(maps.Keys(rights))
	if len(lines) == 0 {
		return header
	}
	return header + strings.Join(lines, "\n") + "\n"
}
