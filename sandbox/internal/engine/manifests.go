// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engine writes what the module's chart needs of KubeVirt and CDI and
// what only they know: the definitions of the operators' own resources and the
// rights that the operators need. Both projects have a command that prints them;
// it is built from the release that third_party pins, so a new release brings
// its new rights with it.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const namespace = "d8-virtualization"

// source is one command that prints objects.
type source struct {
	// release is the target of the builder that has the command.
	release string
	command []string
}

// operator is one part of the engine: where its objects come from and go to.
type operator struct {
	name    string
	sources []source
	crd     string
	rights  string
}

var operators = []operator{
	{
		name: "kubevirt-operator",
		sources: []source{
			{release: "kubevirt", command: []string{"resource-generator", "-type=kv", "-namespace=" + namespace}},
			{release: "kubevirt", command: []string{"resource-generator", "-type=operator-rbac", "-namespace=" + namespace}},
		},
		crd:    "crds/kubevirts.kubevirt.io.yaml",
		rights: "templates/kubevirt/operator/rbac-for-us.yaml",
	},
	{
		name: "cdi-operator",
		sources: []source{
			{release: "cdi", command: []string{"manifest-generator", "-resource-type=operator", "-resource-group=operator-crd", "-namespace=" + namespace}},
			{release: "cdi", command: []string{"manifest-generator", "-resource-type=operator", "-resource-group=operator-cluster-rbac", "-namespace=" + namespace}},
			{release: "cdi", command: []string{"manifest-generator", "-resource-type=operator", "-resource-group=operator-rbac", "-namespace=" + namespace}},
		},
		crd:    "crds/cdis.cdi.kubevirt.io.yaml",
		rights: "templates/cdi/operator/rbac-for-us.yaml",
	},
}

// Generate writes the manifests into the repository. Folders holds the folder of
// each release's commands.
func Generate(ctx context.Context, repoRoot string, folders map[string]string) error {
	for _, operator := range operators {
		if err := operator.generate(ctx, repoRoot, folders); err != nil {
			return fmt.Errorf("manifests of %s: %w", operator.name, err)
		}
	}
	return nil
}

// Releases are the targets whose folders Generate needs.
func Releases() []string { return []string{"kubevirt", "cdi"} }

func (o operator) generate(ctx context.Context, repoRoot string, folders map[string]string) error {
	var definitions, rights []object
	for _, source := range o.sources {
		printed, err := source.print(ctx, folders)
		if err != nil {
			return err
		}
		objects, err := parse(printed)
		if err != nil {
			return err
		}
		for _, obj := range objects {
			obj.adopt(o.name)
			if obj.kind() == "CustomResourceDefinition" {
				definitions = append(definitions, obj)
			} else {
				rights = append(rights, obj)
			}
		}
	}
	if err := write(filepath.Join(repoRoot, o.crd), definitions); err != nil {
		return err
	}
	return write(filepath.Join(repoRoot, o.rights), rights)
}

func (s source) print(ctx context.Context, folders map[string]string) ([]byte, error) {
	folder, found := folders[s.release]
	if !found {
		return nil, fmt.Errorf("the commands of %s are not built", s.release)
	}
	command := exec.CommandContext(ctx, filepath.Join(folder, s.command[0]), s.command[1:]...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(s.command, " "), err, complaint.String())
	}
	return printed, nil
}

// parse splits a stream of YAML documents into objects.
func parse(printed []byte) ([]object, error) {
	reader := utilyaml.NewYAMLReader(bufferedReader(printed))
	var objects []object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		obj := object{}
		if err := yaml.Unmarshal(document, &obj); err != nil {
			return nil, err
		}
		if len(obj) > 0 {
			objects = append(objects, obj)
		}
	}
}

const header = "# Generated from the release that third_party pins (make generate); do not edit.\n"

// write writes objects as one file that Helm takes as it is.
func write(file string, objects []object) error {
	if len(objects) == 0 {
		return fmt.Errorf("%s would be empty", file)
	}
	var content bytes.Buffer
	content.WriteString(header)
	for _, obj := range objects {
		document, err := yaml.Marshal(obj)
		if err != nil {
			return err
		}
		content.WriteString("---\n")
		content.Write(document)
	}
	if strings.Contains(file, "templates/") && bytes.Contains(content.Bytes(), []byte("{{")) {
		return fmt.Errorf("%s would hold {{, which Helm would take for a template", file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content.Bytes(), 0o644)
}
