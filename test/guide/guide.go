// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package guide reads the documents of the module as readers do: their examples,
// headings and links. Tests hold the examples against the schemas and a cluster.
package guide

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Block is one example.
type Block struct {
	// Line is where the example begins in its document, counted from 1.
	Line int
	// Language is what follows the fence: yaml, shell, text or console.
	Language string
	Text     string
	// Until is what the guide promises, from a comment above the example:
	//
	//	<!-- until: condition=Ready -->
	//
	// For YAML it is condition=TYPE, phase=NAME or create. For a command it is run, or
	// words that have to be in its output. Empty is for what nobody can try.
	Until string
}

// Documents are the objects of an example in YAML.
func (b Block) Documents() []string {
	return strings.Split(b.Text, "\n---\n")
}

// Page is one document.
type Page struct {
	// File is its path.
	File   string
	Text   string
	Blocks []Block
	// Levels are those of its headings below the title, in order.
	Levels []int
	// Anchors are the names that links give the headings.
	Anchors map[string]bool
	// Links are the targets of its links and pictures.
	Links []string
}

var (
	fence   = regexp.MustCompile("^```([a-z]*)$")
	promise = regexp.MustCompile(`^<!-- until: (.+) -->$`)
	heading = regexp.MustCompile(`^(#+) (.+)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	marks   = regexp.MustCompile("[`*]|\\]\\([^)]*\\)|\\[")
)

// Read reads a document.
func Read(file string) (*Page, error) {
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, err
	}
	page := &Page{File: file, Text: string(content), Anchors: map[string]bool{}}
	var open *Block
	until := ""
	for number, line := range strings.Split(page.Text, "\n") {
		match := fence.FindStringSubmatch(line)
		switch {
		case open != nil && line == "```":
			page.Blocks = append(page.Blocks, *open)
			open, until = nil, ""
		case open != nil:
			open.Text += line + "\n"
		case match != nil:
			open = &Block{Line: number + 2, Language: match[1], Until: until}
		default:
			if until, err = page.prose(line, until); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
			}
		}
	}
	if open != nil || until != "" {
		return nil, fmt.Errorf("%s: an example does not end, or the promise %q belongs to none", file, until)
	}
	return page, nil
}

// prose takes a line that belongs to no example; it returns the promise that waits
// for its example.
func (p *Page) prose(line, until string) (string, error) {
	if match := promise.FindStringSubmatch(line); match != nil {
		return match[1], nil
	}
	if until != "" {
		return "", fmt.Errorf("no example follows the promise %q", until)
	}
	if match := heading.FindStringSubmatch(line); match != nil {
		p.Levels = append(p.Levels, len(match[1]))
		p.Anchors[Anchor(match[2])] = true
	}
	for _, match := range link.FindAllStringSubmatch(line, -1) {
		p.Links = append(p.Links, match[1])
	}
	return "", nil
}

// Anchor is the name that the site gives a heading: in small letters, without
// punctuation, with hyphens for spaces.
func Anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, marks.ReplaceAllString(title, ""))
}

// Target is the file that a link of the page leads to, and the anchor in it. The
// site turns FAQ.md into faq.html, and FAQ.ru.md into the page of the same name in
// Russian. The file is empty for links to other sites.
func (p *Page) Target(to string) (file, anchor string) {
	to, anchor, _ = strings.Cut(to, "#")
	switch {
	case strings.Contains(to, "://"):
		return "", ""
	case to == "":
		return p.File, anchor
	}
	folder, name := filepath.Split(to)
	folder = filepath.Join(filepath.Dir(p.File), folder)
	if base, found := strings.CutSuffix(name, ".html"); found {
		name = p.source(folder, base)
	}
	return filepath.Join(folder, name), anchor
}

// source is the file that the site makes a page of, in the language of p: names of
// pages are in small letters, whatever those of the files are.
func (p *Page) source(folder, base string) string {
	ending := ".md"
	if strings.HasSuffix(p.File, ".ru.md") {
		ending = ".ru.md"
	}
	entries, _ := os.ReadDir(folder) // Without the folder there is no page either.
	for _, entry := range entries {
		if strings.EqualFold(entry.Name(), base+ending) {
			return entry.Name()
		}
	}
	return base + ending
}

// Pages reads all documents of a folder in English, in the order of their names.
func Pages(folder string) ([]*Page, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.md"))
	if err != nil {
		return nil, err
	}
	var pages []*Page
	for _, file := range files {
		if strings.HasSuffix(file, ".ru.md") {
			continue
		}
		page, err := Read(file)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

// Twin is the file of the same document in Russian.
func (p *Page) Twin() string { return strings.TrimSuffix(p.File, ".md") + ".ru.md" }
