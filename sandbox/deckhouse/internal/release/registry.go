// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxFile bounds what is read of one file of an image; the hooks' program is the largest.
const maxFile = 256 << 20

// shortDigest is how many digits tell bundles apart.
const shortDigest = 16

// Registry is where a module is published: bundles as MODULE:VERSION, release images as MODULE/release:CHANNEL.
type Registry struct {
	// Module is the address of the bundles, for example 127.0.0.1:5000/modules/virtualization.
	Module string
	// Plain is a registry without TLS.
	Plain bool
}

// Offer is what a release image says.
type Offer struct {
	Version *semver.Version
	// Definition is the module.yaml of that version, changelog its changelog.yaml.
	Definition, Changelog []byte
}

// Offer reads the release image of a channel or version.
func (r Registry) Offer(ctx context.Context, tag string) (Offer, error) {
	files := map[string][]byte{}
	err := r.read(ctx, "/release:"+tag, func(name string, _ fs.FileMode, content io.Reader) (err error) {
		files[name], err = io.ReadAll(content)
		return err
	})
	if err != nil {
		return Offer{}, err
	}
	var read struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(files["version.json"], &read); err != nil {
		return Offer{}, fmt.Errorf("version.json of %s/release:%s: %w", r.Module, tag, err)
	}
	version, err := semver.NewVersion(read.Version)
	if err != nil {
		return Offer{}, fmt.Errorf("version.json of %s/release:%s: %q: %w", r.Module, tag, read.Version, err)
	}
	return Offer{Version: version, Definition: files["module.yaml"], Changelog: files["changelog.yaml"]}, nil
}

// Unpack writes the bundle of a version into a folder below the given one, which appears when it is complete, and returns
// its path. The path has the bundle's digest in it: on a machine for development a version is published more than once.
func (r Registry) Unpack(ctx context.Context, tag, parent string) (string, error) {
	reference, err := r.reference(":" + tag)
	if err != nil {
		return "", err
	}
	found, err := remote.Head(reference, remote.WithContext(ctx))
	if err != nil {
		return "", err
	}
	folder := filepath.Join(parent, found.Digest.Hex[:shortDigest], tag)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	return folder, r.unpack(ctx, tag, folder)
}

func (r Registry) unpack(ctx context.Context, tag, folder string) error {
	partial := folder + ".part"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	err := r.read(ctx, ":"+tag, func(name string, mode fs.FileMode, content io.Reader) error {
		return writeFile(filepath.Join(partial, name), mode, content)
	})
	if err != nil {
		return err
	}
	return os.Rename(partial, folder)
}

func writeFile(path string, mode fs.FileMode, content io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, content)
	return err
}

// read calls visit for every regular file of an image.
func (r Registry) read(ctx context.Context, suffix string, visit func(name string, mode fs.FileMode, content io.Reader) error) error {
	reference, err := r.reference(suffix)
	if err != nil {
		return err
	}
	image, err := remote.Image(reference, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	content := mutate.Extract(image)
	defer content.Close()
	files := tar.NewReader(content)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", reference, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(header.Name) || header.Size > maxFile {
			return fmt.Errorf("%s: %q of %d bytes is no file of a module", reference, header.Name, header.Size)
		}
		if err := visit(filepath.Clean(header.Name), header.FileInfo().Mode(), files); err != nil {
			return fmt.Errorf("%s: %s: %w", reference, header.Name, err)
		}
	}
}

func (r Registry) reference(suffix string) (name.Tag, error) {
	var options []name.Option
	if r.Plain {
		options = append(options, name.Insecure)
	}
	return name.NewTag(r.Module+suffix, options...)
}

// Publish pushes the bundle of a version, made of all files of a folder, its release image with what is new in it (nil for
// nothing), and lets a channel hold it.
func (r Registry) Publish(ctx context.Context, folder, version, channel string, changelog []byte) error {
	tag, known := channelTags[channel]
	if !known {
		return fmt.Errorf("there is no channel %q: name one of Alpha, Beta, EarlyAccess, Stable, RockSolid", channel)
	}
	bundle, err := layerOf(os.DirFS(folder))
	if err != nil {
		return err
	}
	about, err := json.Marshal(map[string]string{"version": version})
	if err != nil {
		return err
	}
	definition, err := os.ReadFile(filepath.Join(folder, "module.yaml"))
	if err != nil {
		return err
	}
	release, err := layer(func(w *tar.Writer) error {
		err := errors.Join(addFile(w, "version.json", 0o644, about), addFile(w, "module.yaml", 0o644, definition))
		if changelog != nil {
			err = errors.Join(err, addFile(w, "changelog.yaml", 0o644, changelog))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, push := range []struct {
		suffix string
		layer  v1.Layer
	}{{":" + version, bundle}, {"/release:" + version, release}, {"/release:" + tag, release}} {
		if err := r.push(ctx, push.suffix, push.layer); err != nil {
			return fmt.Errorf("publish %s%s: %w", r.Module, push.suffix, err)
		}
	}
	return nil
}

func (r Registry) push(ctx context.Context, suffix string, content v1.Layer) error {
	reference, err := r.reference(suffix)
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return err
	}
	return remote.Write(reference, image, remote.WithContext(ctx))
}

// layerOf packs every file of a folder.
func layerOf(folder fs.FS) (v1.Layer, error) {
	return layer(func(w *tar.Writer) error {
		return fs.WalkDir(folder, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			content, err := fs.ReadFile(folder, path)
			if err != nil {
				return err
			}
			return addFile(w, path, info.Mode(), content)
		})
	})
}

func addFile(w *tar.Writer, name string, mode fs.FileMode, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "./"), Mode: int64(mode.Perm()), Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func layer(fill func(*tar.Writer) error) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	if err := errors.Join(fill(w), w.Close()); err != nil {
		return nil, err
	}
	return static.NewLayer(packed.Bytes(), types.OCIUncompressedLayer), nil
}
