// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloudinit looks at user data the way the cloud-init in a guest will, to
// tell its author of mistakes that would otherwise only show as a guest that nobody
// can log in to.
package cloudinit

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// mimeReach is how far cloud-init looks for the header of a MIME archive.
const mimeReach = 4096

// Warning says what is probably wrong with user data; it is empty when nothing is.
// The first line says what the rest is, unless it is a MIME archive, whose headers
// come in any order. The data itself is never repeated: it may hold passwords.
func Warning(data string) string {
	first, _, _ := strings.Cut(data, "\n")
	first = strings.TrimSpace(first)
	switch {
	case data == "", isArchive(data), isCompressed(data):
		return ""
	case !strings.HasPrefix(first, "#"):
		return "the first line does not say what the data is; cloud-init ignores it unless it is #cloud-config, #! or another known header"
	case first == "#cloud-config":
		var parsed map[string]any
		if err := yaml.Unmarshal([]byte(data), &parsed); err != nil {
			return fmt.Sprintf("the data after #cloud-config is no YAML map: %v", err)
		}
	}
	return ""
}

func isArchive(data string) bool {
	return strings.Contains(strings.ToLower(data[:min(len(data), mimeReach)]), "mime-version:")
}

// isCompressed tells gzip, which cloud-init unpacks by itself.
func isCompressed(data string) bool { return strings.HasPrefix(data, "\x1f\x8b") }
