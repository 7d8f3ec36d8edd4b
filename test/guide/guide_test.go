// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guide

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const docs = "../../docs"

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "GUIDE.ru.md")
	content := "---\ntitle: x\n---\n\n## One `two`, [three](faq.html#why)!\n\n<!-- until: condition=Ready -->\n```yaml\nkind: A\n## no heading\n```\n" +
		"\n### Вот [так](https://example.org/a)\n\n```\n[no](link)\n```\n![picture](images/a.svg) [b](#one-two-three)\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := &Page{
		File: file, Text: content,
		Blocks: []Block{
			{Line: 9, Language: "yaml", Text: "kind: A\n## no heading\n", Until: "condition=Ready"},
			{Line: 16, Text: "[no](link)\n"},
		},
		Levels:  []int{2, 3},
		Anchors: map[string]bool{"one-two-three": true, "вот-так": true},
		Links:   []string{"faq.html#why", "https://example.org/a", "images/a.svg", "#one-two-three"},
	}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Error(diff)
	}
	dir := filepath.Dir(file)
	if err := os.WriteFile(filepath.Join(dir, "FAQ.ru.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string][2]string{
		"faq.html#why":               {filepath.Join(dir, "FAQ.ru.md"), "why"},
		"reference/a_b.html":         {filepath.Join(dir, "reference", "a_b.ru.md"), ""},
		"../README.md":               {filepath.Join(filepath.Dir(dir), "README.md"), ""},
		"https://example.org/a.html": {"", ""},
		"#one":                       {file, "one"},
	} {
		if target, anchor := page.Target(to); target != want[0] || anchor != want[1] {
			t.Errorf("%s leads to %q %q", to, target, anchor)
		}
	}
}

func TestReadRefusesPromisesWithoutExamples(t *testing.T) {
	for name, content := range map[string]string{
		"text in between": "<!-- until: run -->\n\n```shell\nls\n```\n",
		"the end":         "<!-- until: run -->",
		"an open example": "```shell\nls\n",
	} {
		file := filepath.Join(t.TempDir(), "X.md")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if page, err := Read(file); err == nil {
			t.Errorf("%s: %+v", name, page)
		}
	}
}

// documents are all pages of the site, in both languages, and what developers read.
func documents(t *testing.T) []*Page {
	t.Helper()
	files := []string{"../../README.md", "../../CONTRIBUTING.md"}
	for _, pattern := range []string{"*.md", "*/*.md"} {
		found, err := filepath.Glob(filepath.Join(docs, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 30 {
		t.Fatalf("only %d documents were found", len(files))
	}
	var out []*Page
	for _, file := range files {
		out = append(out, read(t, file))
	}
	return out
}

func read(t *testing.T, file string) *Page {
	t.Helper()
	page, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestLinksLeadSomewhere(t *testing.T) {
	followed := 0
	for _, page := range documents(t) {
		for _, to := range page.Links {
			file, anchor := page.Target(to)
			if file == "" {
				continue
			}
			followed++
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s: %v", page.File, to, err)
			} else if anchor != "" && !read(t, file).Anchors[anchor] {
				t.Errorf("%s: %s: %s has no such heading", page.File, to, file)
			}
		}
	}
	if followed < 100 {
		t.Errorf("only %d links were followed", followed)
	}
}

// A reader in the other language must find the same examples in the same order.
func TestPagesHaveEqualTwins(t *testing.T) {
	comment := regexp.MustCompile(` +# .*`)
	for _, page := range documents(t) {
		if strings.HasSuffix(page.File, ".ru.md") || !strings.HasPrefix(page.File, docs) {
			continue
		}
		twin := read(t, page.Twin())
		plain := func(b Block) Block {
			b.Line, b.Text = 0, comment.ReplaceAllString(b.Text, "")
			return b
		}
		same := func(a, b Block) bool { return plain(a) == plain(b) }
		if !slices.EqualFunc(page.Blocks, twin.Blocks, same) {
			t.Errorf("%s and its twin have other examples:\n%s", page.File, cmp.Diff(page.Blocks, twin.Blocks))
		}
		if !slices.Equal(page.Levels, twin.Levels) {
			t.Errorf("%s: the headings have the levels %v, those of its twin %v", page.File, page.Levels, twin.Levels)
		}
		if ours, theirs := strings.Count(page.Text, "\n|"), strings.Count(twin.Text, "\n|"); ours != theirs {
			t.Errorf("%s: %d lines of tables, its twin has %d", page.File, ours, theirs)
		}
		if ours, theirs := len(page.Links), len(twin.Links); ours != theirs {
			t.Errorf("%s: %d links, its twin has %d", page.File, ours, theirs)
		}
		if diff := cmp.Diff(names(page), names(twin)); diff != "" && !strings.Contains(page.File, "/reference/") {
			t.Errorf("%s and its twin name other things:\n%s", page.File, diff)
		}
		checkLanguages(t, page, twin)
	}
}

var (
	name        = regexp.MustCompile("`[^`\n]+`")
	placeholder = regexp.MustCompile("<[^>]*>")
)

// names are the fields, values and commands that the prose of a page names, in the order of the alphabet; a reader in the
// other language must be told of the same. Descriptions of fields come from two sources, so pages of kinds may differ.
func names(page *Page) []string {
	found := name.FindAllString(page.Text, -1)
	for i := range found {
		found[i] = placeholder.ReplaceAllString(found[i], "<>")
	}
	slices.Sort(found)
	return found
}

var cyrillic = regexp.MustCompile(`\p{Cyrillic}`)

// checkLanguages finds a page that was copied and not translated. What the site shows
// of a page is its title and description.
func checkLanguages(t *testing.T, page, twin *Page) {
	t.Helper()
	if cyrillic.MatchString(page.Text) {
		t.Errorf("%s is not all English", page.File)
	}
	for _, field := range []string{"title", "description"} {
		line := regexp.MustCompile(`(?m)^` + field + `: ".+"$`)
		for _, p := range []*Page{page, twin} {
			if !strings.HasPrefix(p.Text, "---\n") || !line.MatchString(p.Text) {
				t.Errorf("%s has no %s", p.File, field)
			}
		}
	}
	if !cyrillic.MatchString(twin.Text) {
		t.Errorf("%s is not Russian", twin.File)
	}
}

// Pictures differ in their words only.
func TestPicturesHaveEqualTwins(t *testing.T) {
	words := regexp.MustCompile(`>[^<\n]+<|aria-label="[^"]*"`)
	pictures, err := filepath.Glob(filepath.Join(docs, "images", "*.ru.svg"))
	if err != nil || len(pictures) == 0 {
		t.Fatal(pictures, err)
	}
	for _, picture := range pictures {
		ours, theirs := read(t, picture).Text, read(t, strings.TrimSuffix(picture, ".ru.svg")+".svg").Text
		if words.ReplaceAllString(ours, "") != words.ReplaceAllString(theirs, "") {
			t.Errorf("%s differs from its twin in more than its words", picture)
		}
	}
}

// An example that nothing tries goes wrong one day. Settings are tried by test/render,
// and what is not ours is not tried.
func TestExamplesPromiseSomething(t *testing.T) {
	pages, err := Pages(docs)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^(create|condition=[A-Z]\w+|phase=[A-Z]\w+)$`)
	promising := 0
	for _, page := range pages {
		for _, block := range page.Blocks {
			switch {
			case block.Language == "yaml" && strings.Contains(block.Text, "kind: ModuleConfig\n"):
			case block.Language == "yaml" && !form.MatchString(block.Until):
				t.Errorf("%s:%d: the promise %q is none that can be waited for", page.File, block.Line, block.Until)
			case block.Until != "":
				promising++
			}
		}
	}
	if promising < 30 {
		t.Errorf("only %d examples promise anything", promising)
	}
}

// The short names vm and vmi are those of KubeVirt's kinds: a command with one shows nothing that the reader has made.
func TestCommandsNameOurKinds(t *testing.T) {
	foreign := regexp.MustCompile("(kubectl|d8 k) [^`|]*[ ,](vm|vms|vmi|vmis)([ ,/`]|$)")
	for _, page := range documents(t) {
		for number, line := range strings.Split(page.Text, "\n") {
			// A heading may ask about that very thing.
			if !strings.HasPrefix(line, "#") && foreign.MatchString(line) {
				t.Errorf("%s:%d: %s", page.File, number+1, line)
			}
		}
	}
	for line, want := range map[string]bool{
		"kubectl get vm -o wide": true, "see `d8 k -n team describe vm`": true, "kubectl get vd,vm": true, "kubectl delete vm/web": true,
		"kubectl get vmclass": false, "d8v stop vm/web": false, "`kubectl get nodes` shows which vm": false,
	} {
		if foreign.MatchString(line) != want {
			t.Errorf("%q: want %v", line, want)
		}
	}
}
