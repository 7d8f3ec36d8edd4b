// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	runbooks = filepath.Join("..", "..", "docs", "runbooks")
	// runbookPath is where a site of the platform's documentation has the page of an alert. Deckhouse gives the pages of
	// the version that runs to the site in the cluster as those of the channel stable.
	runbookPath = "/modules/virtualization/stable/runbooks/"
	shellBlock  = regexp.MustCompile("(?ms)^ *```shell\n(.*?)^ *```$")
	heading     = regexp.MustCompile(`(?m)^## (.+)$`)
)

// Who is woken by an alert finds its page, in both languages, with equal commands.
func TestEveryAlertHasARunbook(t *testing.T) {
	rules := alerts(t, render(t, Case{}))
	for name, rule := range rules {
		if got, want := rule.Annotations["runbook_url"], "https://deckhouse.io"+runbookPath+strings.ToLower(name)+".html"; got != want {
			t.Errorf("%s: runbook_url is %q, want %q", name, got, want)
		}
		english := readRunbook(t, name, ".md", "What it means", "What is affected", "What to do")
		russian := readRunbook(t, name, ".ru.md", "Что это значит", "Что затронуто", "Что делать")
		if ours, theirs := commands(english), commands(russian); !slices.Equal(ours, theirs) || len(ours) == 0 {
			t.Errorf("%s: the page has the commands %q, its twin %q", name, ours, theirs)
		}
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range rules {
		for _, suffix := range []string{".md", ".ru.md"} {
			file := filepath.Join(runbooks, strings.ToUpper(name)+suffix)
			pages = slices.DeleteFunc(pages, func(page string) bool { return page == file })
		}
	}
	if len(pages) > 0 {
		t.Errorf("there are no alerts for %v", pages)
	}
}

// Clusters that don't reach the public site have a site of their own.
func TestRunbooksAreInTheCluster(t *testing.T) {
	platform := func(domain, mode string, modules ...any) map[string]any {
		return map[string]any{
			"enabledModules": append(modules, "virtualization", "cni-cilium", "operator-prometheus"),
			"modules": map[string]any{
				"publicDomainTemplate": domain, "https": map[string]any{"mode": mode}, "ingressClass": "nginx",
			},
		}
	}
	for name, tc := range map[string]struct {
		c    Case
		want string
	}{
		"the module is off":  {Case{Global: platform("%s.example.com", "OnlyInURI")}, "https://deckhouse.io"},
		"nothing is reached": {Case{Global: platform("", "OnlyInURI", "documentation")}, "https://deckhouse.io"},
		"with TLS":           {Case{Global: platform("%s.example.com", "OnlyInURI", "documentation")}, "https://documentation.example.com"},
		"with a certificate": {Case{Global: platform("docs-%s.kube", "CertManager", "documentation")}, "https://docs-documentation.kube"},
		"without TLS":        {Case{Global: platform("%s.example.com", "Disabled", "documentation")}, "http://documentation.example.com"},
		"our own TLS is no hint": {Case{
			Global:   platform("%s.example.com", "OnlyInURI", "documentation"),
			Settings: map[string]any{"https": map[string]any{"mode": "Disabled"}},
		}, "https://documentation.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			rules := alerts(t, render(t, tc.c))
			for alert, rule := range rules {
				if got, want := rule.Annotations["runbook_url"], tc.want+runbookPath+strings.ToLower(alert)+".html"; got != want {
					t.Errorf("%s leads to %s, want %s", alert, got, want)
				}
			}
			if len(rules) == 0 {
				t.Error("there are no alerts")
			}
		})
	}
}

// readRunbook reads a page and checks its headings.
func readRunbook(t *testing.T, alert, suffix string, headings ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(runbooks, strings.ToUpper(alert)+suffix))
	if err != nil {
		t.Error(err)
		return ""
	}
	text := string(content)
	if !strings.HasPrefix(text, "---\ntitle: \""+alert+"\"\ndescription: \"") {
		t.Errorf("%s%s does not begin with its title and description", alert, suffix)
	}
	var found []string
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	if !slices.Equal(found, headings) {
		t.Errorf("%s%s has the headings %q, want %q", alert, suffix, found, headings)
	}
	return text
}

// commands are those of a page, without comments.
func commands(text string) []string {
	var out []string
	for _, match := range shellBlock.FindAllStringSubmatch(text, -1) {
		for _, line := range strings.Split(strings.TrimSpace(match[1]), "\n") {
			command, _, _ := strings.Cut(line, "   #")
			out = append(out, strings.TrimSpace(command))
		}
	}
	return out
}

// A page that another one leads to exists.
func TestRunbooksLeadSomewhere(t *testing.T) {
	names := map[string]bool{}
	for name := range alerts(t, render(t, Case{})) {
		names[name] = true
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("found %v, %v", pages, err)
	}
	for _, page := range pages {
		content, err := os.ReadFile(filepath.Clean(page))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bD8Virtualization\w+`).FindAllString(string(content), -1) {
			if !names[name] {
				t.Errorf("%s names the alert %s, which does not exist", page, name)
			}
		}
	}
}

// The page about monitoring lists every alert, as severe as it is.
func TestAlertsAreListed(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| \[(\w+)\]\(runbooks/(\w+)\.html\) \| (\d) \| .+ \|$`)
	rules := alerts(t, render(t, Case{}))
	for _, page := range []string{"MONITORING.md", "MONITORING.ru.md"} {
		content, err := os.ReadFile(filepath.Join(runbooks, "..", page))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, match := range row.FindAllStringSubmatch(string(content), -1) {
			name := match[1]
			seen[name] = true
			if rule, there := rules[name]; !there || rule.Labels["severity_level"] != match[3] || match[2] != strings.ToLower(name) {
				t.Errorf("%s: %s is severity %s, leads to %s, and is an alert: %v", page, name, match[3], match[2], there)
			}
		}
		for name := range rules {
			if !seen[name] {
				t.Errorf("%s does not list %s", page, name)
			}
		}
	}
}
