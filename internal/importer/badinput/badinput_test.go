// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// uid is the tag of every image.
	uid = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	// limit is far more than the longest case takes.
	limit = time.Minute
	// parallel cases mostly wait, for a server that fails to fail again.
	parallel = 16
	field    = "spec.dataSource.http.url"
)

// bad is one input and the verdict on it.
type bad struct {
	title string
	// server answers at the URL that the importer is given; content is for
	// servers that just have a file.
	server  http.HandlerFunc
	content []byte
	// args are added to the command line; URL and HOST in them are the server's.
	args []string

	// message is compared as a whole, with HOST for the server's address.
	reason  report.Reason
	message string
	// field is that of the URL if empty, and "-" if there is none.
	field string
	// passes is true for a failure that is tried again.
	passes bool
}

// cluster is what all importers share.
type cluster struct {
	registry *dvcrtest.Registry
	dir      string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return &cluster{registry: dvcrtest.Start(t), dir: t.TempDir()}
}

// outcome is what became of one input.
type outcome struct {
	verdict    *report.Termination
	err        error
	repository string
}

// run gives one input to an importer of its own.
func (c *cluster) run(number int, b bad) outcome {
	handler := b.server
	if handler == nil {
		handler = file(b.content)
	}
	server := httptest.NewServer(handler)
	// A server that keeps a connection open must not keep the test.
	defer server.Close()
	defer server.CloseClientConnections()
	repository := fmt.Sprintf("vi/team/image-%d", number)
	token, err := c.registry.Issuer.Issue("VirtualImage/team/image/"+uid, []token.Access{token.Repository(repository, "pull", "push")}, time.Hour)
	if err != nil {
		return outcome{err: err}
	}
	verdict, err := c.importer(filepath.Join(c.dir, fmt.Sprint(number)), token, repository, server.URL, b.args)
	return outcome{verdict, err, repository}
}

// importer runs Main as a Pod does and returns its verdict.
func (c *cluster) importer(dir, token, repository, url string, more []string) (*report.Termination, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for name, content := range map[string]string{"token": token, "ca.crt": string(c.registry.CA)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	args := []string{
		"--source-url=" + url + "/disk.img",
		"--destination=" + c.registry.Address + "/" + repository + ":" + uid,
		"--token-file=" + filepath.Join(dir, "token"),
		"--registry-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--termination-log=" + filepath.Join(dir, "termination-log"),
		"--refuse-network=",
		"--retries=0",
		"--source-timeout=1s",
	}
	for _, arg := range more {
		arg = strings.ReplaceAll(arg, "URL", url)
		args = append(args, strings.ReplaceAll(arg, "HOST", strings.TrimPrefix(url, "http://")))
	}
	var config importer.Config
	flags := pflag.NewFlagSet("import", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// The error is the verdict's failure once more.
	_ = importer.Main(ctx, config, slog.New(slog.DiscardHandler))
	message, err := os.ReadFile(filepath.Join(dir, "termination-log"))
	if err != nil {
		return nil, err
	}
	return report.ParseTermination(string(message))
}

// address is that of any of the test's servers.
var address = regexp.MustCompile(`(127\.0\.0\.1|localhost):\d+`)

func compare(t *testing.T, verdict *report.Termination, b bad) {
	t.Helper()
	if verdict.Failure == nil {
		t.Fatalf("accepted: %+v", verdict.Result)
	}
	got := *verdict.Failure
	got.Message = address.ReplaceAllString(got.Message, "HOST")
	want := report.Failure{Reason: b.reason, Message: b.message, Field: b.field, Permanent: !b.passes}
	switch want.Field {
	case "":
		want.Field = field
	case "-":
		want.Field = ""
	}
	if got != want {
		t.Errorf("verdict:\n  %+v, want:\n  %+v", got, want)
	}
}

// leavesNothing looks for what a refused image may have left in the registry.
func (c *cluster) leavesNothing(t *testing.T, repository string) {
	t.Helper()
	root := filepath.Join(c.registry.Root, "docker/registry/v2/repositories", repository)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// The registry may write the state of a hash once more after it has
		// removed an upload.
		if !entry.IsDir() && !strings.Contains(path, "/hashstates/") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestBadInput runs the whole table.
func TestBadInput(t *testing.T) {
	cluster := newCluster(t)
	var table []bad
	for _, part := range [][]bad{badFiles(), badQCOW2(), badForeign(t), badServers(), badRedirects(), badAddresses(t), badChecksums(), badImages(t), badTargets(t)} {
		table = append(table, part...)
	}
	if len(table) < 60 {
		t.Fatalf("only %d inputs", len(table))
	}
	outcomes := make([]outcome, len(table))
	var group errgroup.Group
	group.SetLimit(parallel)
	for number, b := range table {
		group.Go(func() error {
			outcomes[number] = cluster.run(number, b)
			return nil
		})
	}
	_ = group.Wait()
	for number, b := range table {
		t.Run(b.title, func(t *testing.T) {
			got := outcomes[number]
			if got.err != nil {
				t.Fatal(got.err)
			}
			compare(t, got.verdict, b)
			cluster.leavesNothing(t, got.repository)
		})
	}
}
