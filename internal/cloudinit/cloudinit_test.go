// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"strings"
	"testing"
)

func TestWarning(t *testing.T) {
	for _, tc := range []struct {
		title, data string
		want        string
	}{
		{"cloud-config", "#cloud-config\nusers: []\n", ""},
		{"cloud-config with a carriage return", "#cloud-config\r\nusers: []\r\n", ""},
		{"script", "#!/bin/sh\necho hello\n", ""},
		{"template", "## template: jinja\n#cloud-config\n{{ broken\n", ""},
		{"archive", "Content-Type: multipart/mixed; boundary=\"==\"\nMIME-Version: 1.0\n\n--==\n", ""},
		{"archive that begins with the version", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==\"\n\n--==\n", ""},
		{"archive in small letters", "mime-version: 1.0\n", ""},
		{"compressed", "\x1f\x8b\x08\x00rest", ""},
		{"nothing", "", ""},
		{"no header", "users: []\n", "cloud-init ignores it"},
		{"a type without a version, which is no archive", "Content-Type: text/plain\n\nhello\n", "cloud-init ignores it"},
		{"a version too far down", strings.Repeat("x", 4096) + "\nMIME-Version: 1.0\n", "cloud-init ignores it"},
		{"a list where a map is wanted", "#cloud-config\n- users\n", "no YAML map"},
		{"broken YAML", "#cloud-config\nusers: [\n", "no YAML map"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got := Warning(tc.data)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWarningKeepsSecrets(t *testing.T) {
	for _, data := range []string{"password: hunter2\n", "#cloud-config\n- password: hunter2\n", "#cloud-config\npassword: [hunter2\n"} {
		if got := Warning(data); got == "" || strings.Contains(got, "hunter2") {
			t.Errorf("%q: %q", data, got)
		}
	}
}
