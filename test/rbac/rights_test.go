// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func load(t *testing.T) *Rights {
	t.Helper()
	rights, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return rights
}

// Every cell of the published matrix, once more by hand: a slip in the table would be a slip in everything that follows from it.
func TestTable(t *testing.T) {
	want := map[string]string{
		"virtualmachines":                      "R R CRUD CRUD CRUD CRUD",
		"virtualdisks":                         "R R CRUD CRUD CRUD CRUD",
		"virtualimages":                        "R R R CRUD CRUD CRUD",
		"clustervirtualimages":                 "R R R R CRUD CRUD",
		"virtualmachineblockdeviceattachments": "R R CRUD CRUD CRUD CRUD",
		"virtualmachineoperations":             "R CR CRUD CRUD CRUD CRUD",
		"virtualmachineipaddresses":            "R R CRUD CRUD CRUD CRUD",
		"virtualmachineipaddressleases":        "- - - R R CRUD",
		"virtualmachineclasses":                "R R R R CRUD CRUD",
	}
	rights := load(t)
	if len(rights.Resources) != len(want) || len(rights.Levels) != 6 || len(rights.Streams) != 3 {
		t.Errorf("%d resources, %d levels, %d streams", len(rights.Resources), len(rights.Levels), len(rights.Streams))
	}
	for _, resource := range rights.Resources {
		if got := strings.Join(resource.Cells, " "); got != want[resource.Name] {
			t.Errorf("%s: %s, want %s", resource.Name, got, want[resource.Name])
		}
	}
	for _, stream := range rights.Streams {
		if !slices.Equal(stream.Open, []bool{false, true, true, true, true, true}) {
			t.Errorf("%s: %v", stream.Name, stream.Open)
		}
	}
}

// Levels add up: nobody loses a right by a higher level.
func TestLevelsAddUp(t *testing.T) {
	rights := load(t)
	for _, resource := range rights.Resources {
		for i := 1; i < len(resource.Cells); i++ {
			for _, verb := range rights.VerbsOf(resource.Cells[i-1]) {
				if !slices.Contains(rights.VerbsOf(resource.Cells[i]), verb) {
					t.Errorf("%s may not %s %s any more", rights.Levels[i].Level, verb, resource.Name)
				}
			}
		}
	}
}

func TestVerbsOfACell(t *testing.T) {
	rights := load(t)
	for cell, want := range map[string]string{
		"-": "", "R": "get list watch", "CR": "create get list watch",
		"CRUD": "create delete deletecollection get list patch update watch",
	} {
		if got := strings.Join(rights.VerbsOf(cell), " "); got != want {
			t.Errorf("%s: %q, want %q", cell, got, want)
		}
	}
	if got := strings.Join(rights.AllVerbs(), " "); got != "create delete deletecollection get list patch update watch" {
		t.Errorf("all verbs: %q", got)
	}
}

func TestBadTables(t *testing.T) {
	const levels = "levels: [{level: User, role: user, use: viewer}]\nverbs: {R: [get]}\n"
	for _, test := range []struct{ name, text, want string }{
		{"a cell too many", levels + "resources: [{name: disks, cells: [R, R]}]", "disks has 2 cells for 1 levels"},
		{"an unknown letter", levels + "resources: [{name: disks, cells: [RX]}]", `'X' in "RX" is no letter`},
		{"a stream without a cell", levels + "streams: [{name: vnc, open: []}]", "vnc has 0 cells for 1 levels"},
		{"an unknown field", levels + "rows: []", "rows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestMarkdown(t *testing.T) {
	rights, err := parse([]byte(`
levels: [{level: User, role: user, use: viewer}, {level: Admin, role: admin, use: admin, manage: viewer}]
verbs: {R: [get]}
resources: [{name: disks, cells: ["-", R]}]
streams: [{commands: [ssh, scp], name: portforward, open: [false, true]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = "| Resource | User | Admin |\n|---|---|---|\n| `disks` | - | R |\n| `d8v ssh`, `d8v scp` | no | yes |\n" +
		"\n| Access level | Role in a namespace | Role in the cluster | In a namespace before Deckhouse 1.78 | In the cluster before 1.78 |\n" +
		"|---|---|---|---|---|\n" +
		"| User | `d8:namespace:viewer` | — | `d8:use:role:viewer:virtualization` | — |\n" +
		"| Admin | `d8:namespace:admin` | `d8:subsystem:virtualization:viewer` | `d8:use:role:admin:virtualization` | `d8:manage:virtualization:viewer` |\n"
	if got := rights.Markdown(English); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestInsert(t *testing.T) {
	got, err := Insert("one\n"+Begin+"old\n"+End+"two\n", "new\n")
	if want := "one\n" + Begin + "\nnew\n\n" + End + "two\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, guide := range []string{"nothing", Begin, End + Begin} {
		if _, err := Insert(guide, "new"); err == nil {
			t.Errorf("%q was written to", guide)
		}
	}
}

// The guides are as the table says, in both languages.
func TestGuidesAreWritten(t *testing.T) {
	rights := load(t)
	for file, words := range map[string]Words{"../../docs/ADMIN_GUIDE.md": English, "../../docs/ADMIN_GUIDE.ru.md": Russian} {
		guide, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		written, err := Insert(string(guide), rights.Markdown(words))
		if err != nil || written != string(guide) {
			t.Errorf("%s is not as the table says (%v): run `make generate`", file, err)
		}
	}
}
