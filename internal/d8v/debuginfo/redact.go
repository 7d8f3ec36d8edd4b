// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "REDACTED"

// secretFields hold what only the guest is meant to read. The names are those of our
// API and of KubeVirt's.
var secretFields = []string{"userData", "userDataBase64", "networkData", "networkDataBase64"}

// uploadField holds addresses whose path is a password.
const uploadField = "imageUploadURLs"

var (
	// secretVariable is the name of an environment variable that has a secret's value.
	secretVariable = regexp.MustCompile(`(?i)token|passw|secret|credential|private|_key$|standalone`)
	// credentials are those of an address.
	credentials = regexp.MustCompile(`://[^/@\s"']+@`)
)

// scrubber takes secrets out of what leaves the cluster. What it found in objects it
// takes out of all texts, since logs repeat what objects say.
type scrubber struct {
	found []string
}

// leastSecret is how long a line of user data has to be to be looked for in texts, in
// bytes: "users:" is everywhere.
const leastSecret = 12

func (s *scrubber) remember(secret string) {
	if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(secret)); err == nil && len(decoded) >= leastSecret {
		s.remember(string(decoded))
	}
	s.found = append(s.found, secret, base64.StdEncoding.EncodeToString([]byte(secret)))
	for line := range strings.Lines(secret) {
		if line = strings.TrimSpace(line); len(line) >= leastSecret && line != "#cloud-config" {
			s.found = append(s.found, line)
		}
	}
}

// object takes the secrets out of an object, in place.
func (s *scrubber) object(content map[string]any) {
	if metadata, ok := content["metadata"].(map[string]any); ok {
		delete(metadata, "managedFields")
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			// It repeats the whole object.
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
		}
	}
	if content["kind"] == "Secret" {
		delete(content, "data")
		delete(content, "stringData")
	}
	s.value(content)
}

func (s *scrubber) value(value any) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			s.value(item)
		}
	case map[string]any:
		name, _ := v["name"].(string)
		for field, inner := range v {
			text, isText := inner.(string)
			switch {
			case isText && (slices.Contains(secretFields, field) || field == "value" && secretVariable.MatchString(name)):
				s.remember(text)
				v[field] = Redacted
			case field == uploadField:
				s.addresses(inner)
				v[field] = Redacted
			default:
				s.value(inner)
			}
		}
	}
}

func (s *scrubber) addresses(value any) {
	if addresses, ok := value.(map[string]any); ok {
		for _, address := range addresses {
			if text, ok := address.(string); ok {
				s.remember(text)
			}
		}
	}
}

// text takes everything that was found out of a text. Longer secrets go first: a
// shorter one may be a part.
func (s *scrubber) text(text string) string {
	slices.SortFunc(s.found, func(a, b string) int { return len(b) - len(a) })
	s.found = slices.Compact(s.found)
	for _, secret := range s.found {
		if len(secret) >= leastSecret {
			text = strings.ReplaceAll(text, secret, Redacted)
		}
	}
	return credentials.ReplaceAllString(text, "://"+Redacted+"@")
}
