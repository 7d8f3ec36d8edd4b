// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

func collect(t *testing.T, registry *dvcrtest.Registry) gc.Report {
	t.Helper()
	report, err := registry.Collector.Collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnEmptyRegistryIsCollected(t *testing.T) {
	registry := dvcrtest.Start(t)
	if report := collect(t, registry); report != (gc.Report{}) {
		t.Errorf("%+v", report)
	}
	must(t, os.RemoveAll(registry.Root))
	if report := collect(t, registry); report != (gc.Report{}) {
		t.Errorf("without a directory: %+v", report)
	}
}

// The space of an image is free as soon as it is deleted: what the image was
// pushed with, and that it was looked for and pulled, does not hold it.
func TestADeletedImageFreesItsSpaceAtOnce(t *testing.T) {
	registry := dvcrtest.Start(t)
	layer := diskOf(t, 1)
	pusher := importer(t, registry, debian)
	_, err := pusher.has(debian, layer)
	must(t, err)
	must(t, pusher.push(debian, layer))
	node := newClient(t, registry, "node", token.Repository(debian, "pull"))
	must(t, node.pull(debian, uid, layer))
	if report := collect(t, registry); report.Blobs != 0 || report.Manifests != 0 || report.Links != 0 {
		t.Fatalf("collected under an image: %+v", report)
	}
	must(t, node.pull(debian, uid, layer))

	deleter := controller(t, registry, debian)
	must(t, expect("head", deleter.do("HEAD", "/v2/"+debian+"/manifests/"+uid, nil, ""), 200))
	must(t, deleter.deleteImage(debian, layer, uid))
	report := collect(t, registry)
	manifest, config := manifestOf(layer, uid)
	if want := int64(len(layer) + len(manifest) + len(config)); report.FreedBytes != want || report.Blobs != 3 || !report.Retry.IsZero() {
		t.Errorf("freed %d of %d bytes: %+v", report.FreedBytes, want, report)
	}
	if report.Repositories != 1 {
		t.Errorf("%d repositories removed", report.Repositories)
	}
	if left := stored(t, registry); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestWhatAnotherImageNeedsStays(t *testing.T) {
	registry := dvcrtest.Start(t)
	layer := diskOf(t, 1)
	must(t, importer(t, registry, debian).push(debian, layer))
	other := newClient(t, registry, "ClusterVirtualImage//alpine/"+newUID, token.Repository(alpine, "pull", "push"), token.Repository(debian, "pull"))
	mounted, err := other.mount(alpine, debian, layer)
	if !mounted || err != nil {
		t.Fatal(mounted, err)
	}
	must(t, other.publish(alpine, newUID, layer, newUID))
	must(t, controller(t, registry, debian).deleteImage(debian, layer, uid))
	if report := collect(t, registry); report.Blobs != 2 || report.Links != 2 {
		t.Errorf("only manifest and configuration, and the links of the repository, are unused: %+v", report)
	}
	must(t, other.pull(alpine, newUID, layer))
	if found, _ := importer(t, registry, debian).has(debian, layer); found {
		t.Error("the repository still gives access to a layer that none of its images has")
	}
}

// Between each two requests of a push everything is collected.
func TestAPushInFlightLosesNothing(t *testing.T) {
	for title, layerOf := range map[string]func(*client, []byte) error{
		"uploaded": func(c *client, layer []byte) error { return c.upload(debian, layer) },
		"found by HEAD": func(c *client, layer []byte) error {
			found, err := c.has(debian, layer)
			if !found {
				t.Error("not found")
			}
			return err
		},
		"mounted": func(c *client, layer []byte) error {
			mounted, err := c.mount(debian, alpine, layer)
			if !mounted {
				t.Error("not mounted")
			}
			return err
		},
	} {
		t.Run(title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			layer := diskOf(t, 1)
			old := map[string]string{"mounted": alpine}[title]
			if old == "" {
				old = debian
			}
			must(t, importer(t, registry, old).push(old, layer))
			pusher := newClient(t, registry, "VirtualImage/team/debian/"+newUID, token.Repository(debian, "pull", "push"), token.Repository(alpine, "pull"))
			must(t, layerOf(pusher, layer))
			must(t, controller(t, registry, old).deleteImage(old, layer, uid))
			report := collect(t, registry)
			if want := registry.Clock.Now().Add(gc.DefaultGrace); !report.Retry.Equal(want) {
				t.Errorf("another run at %s, want %s", report.Retry, want)
			}
			registry.Clock.Step(gc.DefaultGrace - time.Second)
			collect(t, registry)
			must(t, pusher.publish(debian, newUID, layer, newUID))
			registry.Clock.Step(10 * gc.DefaultGrace)
			collect(t, registry)
			must(t, pusher.pull(debian, newUID, layer))
		})
	}
}

// An importer may leave bytes here that it reads back more than once, for longer
// than a push takes.
func TestWhatAnImporterReadsBackStays(t *testing.T) {
	registry := dvcrtest.Start(t)
	pusher := importer(t, registry, debian)
	layer := diskOf(t, 1)
	must(t, pusher.upload(debian, layer))
	for range 5 {
		registry.Clock.Step(gc.DefaultGrace - time.Second)
		must(t, expect("read back", pusher.do("GET", "/v2/"+debian+"/blobs/"+digest.FromBytes(layer).String(), nil, ""), 200))
		collect(t, registry)
	}
	registry.Clock.Step(gc.DefaultGrace)
	if report := collect(t, registry); report.Blobs != 1 {
		t.Errorf("afterwards: %+v", report)
	}
}

func TestAnUnfinishedPushIsCollectedInTheEnd(t *testing.T) {
	registry := dvcrtest.Start(t)
	pusher := importer(t, registry, debian)
	layer := diskOf(t, 1)
	must(t, pusher.upload(debian, layer))
	if report := collect(t, registry); report.Blobs != 0 {
		t.Errorf("collected at once: %+v", report)
	}
	registry.Clock.Step(gc.DefaultGrace)
	if report := collect(t, registry); report.Blobs != 1 || report.Links != 1 || report.FreedBytes != int64(len(layer)) {
		t.Errorf("after the grace period: %+v", report)
	}
	if found, err := pusher.has(debian, layer); found || err != nil {
		t.Errorf("the registry still promises the blob: %v", err)
	}
	must(t, pusher.push(debian, layer))
	must(t, pusher.pull(debian, uid, layer))
}

func TestManifestsWithoutATagGoWhenTheyAreOld(t *testing.T) {
	registry := dvcrtest.Start(t)
	pusher := importer(t, registry, debian)
	first, second := diskOf(t, 1), diskOf(t, 2)
	must(t, pusher.upload(debian, first))
	manifest, _ := manifestOf(first, uid)
	must(t, pusher.publish(debian, digest.FromBytes(manifest).String(), first, uid))
	must(t, pusher.upload(debian, second))
	must(t, pusher.publish(debian, "moved", second, uid))
	must(t, pusher.upload(debian, first))
	must(t, pusher.publish(debian, "moved", first, newUID))

	if report := collect(t, registry); report.Manifests != 0 || report.Retry.IsZero() {
		t.Errorf("young ones: %+v", report)
	}
	must(t, expect("pull by digest", pusher.do("GET", "/v2/"+debian+"/manifests/"+digest.FromBytes(manifest).String(), nil, ""), 200))
	registry.Clock.Step(2 * gc.DefaultGrace)
	// Two manifests with their configurations, and the layer of one: the other's
	// is the tagged image's, too.
	if report := collect(t, registry); report.Manifests != 2 || report.Blobs != 5 {
		t.Errorf("old ones: %+v", report)
	}
	must(t, expect("pull by digest", pusher.do("GET", "/v2/"+debian+"/manifests/"+digest.FromBytes(manifest).String(), nil, ""), 404))
	must(t, pusher.pullOf(debian, "moved", first, newUID))
}

// A manifest that cannot be read keeps all that its repository has access to,
// and nothing of the others'.
func TestAnUnreadableManifestKeepsItsRepository(t *testing.T) {
	registry := dvcrtest.Start(t)
	broken, deleted := diskOf(t, 1), diskOf(t, 2)
	must(t, importer(t, registry, debian).push(debian, broken))
	must(t, importer(t, registry, alpine).push(alpine, deleted))
	must(t, controller(t, registry, alpine).deleteImage(alpine, deleted, uid))
	manifest, _ := manifestOf(broken, uid)
	file := filepath.Join(registry.Root, "docker/registry/v2/blobs/sha256", digest.FromBytes(manifest).Encoded()[:2], digest.FromBytes(manifest).Encoded(), "data")
	must(t, os.WriteFile(file, []byte("{"), 0o600))
	if report := collect(t, registry); report.Blobs != 3 {
		t.Errorf("%+v", report)
	}
	if found, _ := importer(t, registry, debian).has(debian, broken); !found {
		t.Error("the layer is gone")
	}
	must(t, os.RemoveAll(filepath.Dir(file)))
	collect(t, registry)
	if found, _ := importer(t, registry, debian).has(debian, broken); !found {
		t.Error("the layer is gone with the manifest")
	}
}

// An error in one place does not keep the rest from being freed.
func TestWhatCannotBeRemovedIsReported(t *testing.T) {
	registry := dvcrtest.Start(t)
	must(t, importer(t, registry, debian).push(debian, diskOf(t, 1)))
	link := filepath.Join(registry.Root, "docker/registry/v2/repositories", debian, "_manifests/tags", uid, "current/link")
	must(t, os.WriteFile(link, []byte("no digest"), 0o600))
	_, err := registry.Collector.Collect(context.Background())
	if err == nil || !strings.Contains(err.Error(), debian) {
		t.Errorf("error: %v", err)
	}
	if left := stored(t, registry); !slices.ContainsFunc(left, func(file string) bool { return strings.HasPrefix(file, "blobs/") }) {
		t.Error("blobs were removed although not everything is known")
	}
}

func TestATagWithoutItsManifestGoes(t *testing.T) {
	registry := dvcrtest.Start(t)
	layer := diskOf(t, 1)
	must(t, importer(t, registry, debian).push(debian, layer))
	must(t, os.RemoveAll(filepath.Join(registry.Root, "docker/registry/v2/repositories", debian, "_manifests/revisions")))
	if report := collect(t, registry); report.Blobs != 3 || report.Repositories != 1 {
		t.Errorf("%+v", report)
	}
	if left := stored(t, registry); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestAbandonedUploads(t *testing.T) {
	registry := dvcrtest.Start(t)
	pusher := importer(t, registry, debian)
	begin := func() (location, id string) {
		started := pusher.do("POST", "/v2/"+debian+"/blobs/uploads/", nil, "")
		return started.Header().Get("Location"), started.Header().Get("Docker-Upload-UUID")
	}
	location, abandoned := begin()
	must(t, expect("patch", pusher.do("PATCH", location, []byte("hello"), "application/octet-stream"), 202))
	stamp(t, registry, abandoned)
	registry.Clock.Step(gc.IdleUploadAge - time.Second)
	if report, err := registry.Collector.PurgeUploads(context.Background()); err != nil || report.Uploads != 0 {
		t.Errorf("too early: %+v, %v", report, err)
	}
	registry.Clock.Step(time.Second)
	location, running := begin()
	stamp(t, registry, running)
	if report, err := registry.Collector.PurgeUploads(context.Background()); err != nil || report.Uploads != 1 || report.FreedBytes < 5 {
		t.Errorf("%+v, %v", report, err)
	}
	must(t, expect("the running one", pusher.do("PATCH", location, []byte("x"), "application/octet-stream"), 202))
	stamp(t, registry, running)
	registry.Clock.Step(2 * gc.IdleUploadAge)
	if report := collect(t, registry); report.Uploads != 1 || report.Repositories != 1 {
		t.Errorf("a collection does the same: %+v", report)
	}
}

// stamp sets the times of an upload's files by the collector's clock: the file
// system's goes on while that stands still.
func stamp(t *testing.T, registry *dvcrtest.Registry, id string) {
	t.Helper()
	must(t, filepath.WalkDir(filepath.Join(registry.Root, "docker/registry/v2/repositories", debian, "_uploads", id), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, time.Time{}, registry.Clock.Now())
	}))
}
