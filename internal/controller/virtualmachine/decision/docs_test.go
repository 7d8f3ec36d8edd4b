// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A row of the guides' table: the field and when a change of it takes effect.
var documentedField = regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| (Live|Restart) \\|")

// What the API says of each field, which kubectl explain shows, is what the table in the code says.
func TestDescribedChanges(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/reference/VIRTUALMACHINE.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `spec\\.([A-Za-z.]+)` \\| [^|]+ \\| (.+) \\|$").FindAllStringSubmatch(string(page), -1) {
		described[row[1]] = row[2]
	}
	for _, field := range fieldClasses {
		text, found := described[field.path]
		if restart := strings.Contains(text, "A change needs a restart"); !found || restart != (field.class == changeRestart) {
			t.Errorf("%s takes effect %s, and is described as %q", field.path, field.class, text)
		}
	}
}

// What the user guides say of each field is what the table in the code says.
func TestDocumentedChanges(t *testing.T) {
	var want []string
	for _, field := range fieldClasses {
		want = append(want, field.path+" "+string(field.class))
	}
	for _, guide := range []string{"USER_GUIDE.md", "USER_GUIDE.ru.md"} {
		text, err := os.ReadFile("../../../../docs/" + guide)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range documentedField.FindAllStringSubmatch(string(text), -1) {
			got = append(got, row[1]+" "+row[2])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s tells of\n%v, want\n%v", guide, got, want)
		}
	}
}
