// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dmt

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// documents are the pages of the site. That each has a twin, and which language it is
// in, is in test/guide.
func documents(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, file := range files(t, ".md") {
		if strings.HasPrefix(file, "docs/") {
			out = append(out, file)
		}
	}
	return out
}

// The site cannot be built from a page whose head it cannot read, and takes the
// language from the name of the file.
func TestHeadsOfDocuments(t *testing.T) {
	for _, file := range documents(t) {
		rest, begins := strings.CutPrefix(read(t, file), "---\n")
		head, _, ends := strings.Cut(rest, "\n---\n")
		fields := map[string]any{}
		if err := yaml.UnmarshalStrict([]byte(head), &fields); !begins || !ends || err != nil {
			t.Errorf("%s: the head begins: %v, ends: %v, %v", file, begins, ends, err)
		}
		if _, named := fields["lang"]; named {
			t.Errorf("%s names its language", file)
		}
	}
}

// The linter refuses more than 15 MiB; pictures of such a size are noticed long before.
func TestDocumentsAreSmall(t *testing.T) {
	var total int64
	err := filepath.Walk(filepath.Join(root, "docs"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return err
	})
	if err != nil || total == 0 || total > 10<<20 {
		t.Errorf("the documents have %d bytes, %v", total, err)
	}
}

// line is what a rule about one line of a page is told.
type line struct {
	text, before string
	code         bool
}

// quoted is what stands between backticks, in angle brackets or in a link: no address
// there is taken for a bare one.
var (
	quoted  = regexp.MustCompile("`[^`]*`|<[^>]*>|\\]\\([^)]*\\)")
	heading = regexp.MustCompile(`^#{1,6} `)
	address = regexp.MustCompile(`https?://`)
)

// broken names the rules of markdownlint, as the linter sets them, that a line breaks.
func broken(l line) []string {
	var out []string
	add := func(rule string, wrong bool) {
		if wrong {
			out = append(out, rule)
		}
	}
	length := utf8.RuneCountInString(l.text)
	add("MD009 spaces at the end", strings.HasSuffix(l.text, " "))
	add("MD010 tab", strings.Contains(l.text, "\t"))
	if l.code {
		add("MD013 code of more than 400 letters", length > 400)
		return out
	}
	add("MD012 two empty lines", l.text == "" && l.before == "")
	if heading.MatchString(l.text) {
		add("MD013 heading of more than 128 letters", length > 128)
		add("MD022 heading without an empty line before", l.before != "")
		add("MD026 punctuation at the end of a heading", strings.ContainsAny(l.text[len(l.text)-1:], ".,;:!"))
	}
	// A single word after the limit is let be, and so it is the last space that counts.
	add("MD013 more than 1000 letters", length > 1000 && strings.Contains(string([]rune(l.text)[1000:]), " "))
	add("MD034 bare address", address.MatchString(quoted.ReplaceAllString(l.text, "")))
	return out
}

func TestBroken(t *testing.T) {
	for name, test := range map[string]struct {
		line line
		want string
	}{
		"prose":                  {line{text: "See `https://a.org`, <https://b.org> and [c](https://c.org).", before: "a"}, ""},
		"an address":             {line{text: "See https://a.org.", before: "a"}, "MD034 bare address"},
		"an address in code":     {line{text: "curl https://a.org", before: "a", code: true}, ""},
		"two empty lines":        {line{}, "MD012 two empty lines"},
		"two empty lines, code":  {line{code: true}, ""},
		"a heading":              {line{text: "## Why?"}, ""},
		"a heading with a colon": {line{text: "## Why:"}, "MD026 punctuation at the end of a heading"},
		"a heading in a text":    {line{text: "## Why?", before: "a"}, "MD022 heading without an empty line before"},
		"a comment in code":      {line{text: "## Why:", before: "a", code: true}, ""},
		"a space at the end":     {line{text: "a ", before: "a"}, "MD009 spaces at the end"},
		"a tab in code":          {line{text: "\ta", before: "a", code: true}, "MD010 tab"},
		"a long line":            {line{text: strings.Repeat("ab ", 400) + "c", before: "a"}, "MD013 more than 1000 letters"},
		"a long line of code":    {line{text: strings.Repeat("a", 401), before: "a", code: true}, "MD013 code of more than 400 letters"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(broken(test.line), ", "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestMarkdownOfDocuments(t *testing.T) {
	fence := regexp.MustCompile("^ *```(.*)$")
	for _, file := range documents(t) {
		text := read(t, file)
		if !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
			t.Errorf("%s: MD047: does not end with the end of one line", file)
		}
		_, body, _ := strings.Cut(strings.TrimPrefix(text, "---\n"), "\n---\n")
		now := line{before: "---"}
		for i, text := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
			now.text = text
			for _, rule := range broken(now) {
				t.Errorf("%s: line %d after the head: %s", file, i+1, rule)
			}
			if marks := fence.FindStringSubmatch(text); marks != nil {
				if !now.code && marks[1] == "" {
					t.Errorf("%s: line %d after the head: MD040: the code has no language", file, i+1)
				}
				now.code = !now.code
			}
			now.before = text
		}
	}
}
