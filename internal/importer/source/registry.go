// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

const (
	// maxManifest bounds every answer of a registry that is not a layer.
	maxManifest = 8 << 20
	// maxLayers is more than any container runtime takes.
	maxLayers = 256
)

// RegistryOptions describe a container image that holds a disk.
type RegistryOptions struct {
	// Image is its reference, with docker:// in front or without.
	Image string
	// DockerConfig holds credentials, as in a Secret of type
	// kubernetes.io/dockerconfigjson; it may be empty.
	DockerConfig []byte
	// CA holds further PEM certificate authorities to trust.
	CA []byte
	// RefusedNetworks are never connected to, whatever a name, a redirect or the
	// registry's token server resolves to.
	RefusedNetworks []netip.Prefix
	// Timing holds the timeouts and attempts; nothing else of it is used.
	Timing HTTPOptions
}

// Registry is a disk in a container image: the one file in its directory disk/,
// or else the only file whose name ends like a disk's.
type Registry struct {
	options   RegistryOptions
	reference name.Reference
	base      *http.Transport
}

// NewRegistry checks the options; it does not connect.
func NewRegistry(options RegistryOptions) (*Registry, error) {
	reference, err := name.ParseReference(strings.TrimPrefix(options.Image, "docker://"))
	if err != nil {
		return nil, &Error{Reason: report.SourceNotFound, Permanent: true, Field: "image",
			Message: fmt.Sprintf("%q is no reference of a container image: write it as registry/repository:tag", options.Image)}
	}
	if _, err := credentialsFor(options.DockerConfig, reference.Context()); err != nil {
		return nil, err
	}
	options.Timing = options.Timing.withDefaults()
	options.Timing.CA, options.Timing.RefusedNetworks = options.CA, options.RefusedNetworks
	// Whatever answers: a layer has to have the manifest's digest.
	options.Timing.Verified = true
	base, err := options.Timing.network("image").transport(2)
	if err != nil {
		return nil, err
	}
	return &Registry{options: options, reference: reference, base: base}, nil
}

// String is the reference.
func (r *Registry) String() string { return "docker://" + r.reference.Name() }

// Open implements Source.
func (r *Registry) Open(ctx context.Context) (Stream, error) {
	pull, err := r.begin(ctx)
	if err != nil {
		return nil, r.failure(err)
	}
	return pull.open(ctx)
}

// pull is one way through an image.
type pull struct {
	source     *Registry
	authorized http.RoundTripper
	manifest   *v1.Manifest
	received   counter
}

// begin authenticates and reads the manifest.
func (r *Registry) begin(ctx context.Context) (*pull, error) {
	credentials, err := credentialsFor(r.options.DockerConfig, r.reference.Context())
	if err != nil {
		return nil, err
	}
	guarded := &guardedTransport{base: r.base, host: r.reference.Context().RegistryStr()}
	authorized, err := transport.NewWithContext(ctx, r.reference.Context().Registry, credentials, guarded, []string{r.reference.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	image, err := r.image(remote.WithContext(ctx), remote.WithTransport(authorized))
	if err != nil {
		return nil, err
	}
	// The manifest has come already: nothing is asked of the registry any more.
	manifest, err := image.Manifest()
	if err != nil {
		return nil, r.noManifest(err)
	}
	if len(manifest.Layers) > maxLayers {
		return nil, r.unusable("has %d layers, more than the %d that are read", len(manifest.Layers), maxLayers)
	}
	return &pull{source: r, authorized: authorized, manifest: manifest}, nil
}

// image picks the platform's image, or the only one there is: for a disk it
// makes no difference which processor its container was meant for.
func (r *Registry) image(options ...remote.Option) (v1.Image, error) {
	descriptor, err := remote.Get(r.reference, options...)
	if err != nil {
		return nil, err
	}
	if !descriptor.MediaType.IsIndex() {
		image, err := descriptor.Image()
		if err != nil {
			return nil, r.noManifest(err)
		}
		return image, nil
	}
	index, err := descriptor.ImageIndex()
	if err != nil {
		return nil, r.noManifest(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, r.noManifest(err)
	}
	var images []v1.Descriptor
	for _, entry := range list.Manifests {
		if !entry.MediaType.IsImage() || (entry.Platform != nil && entry.Platform.OS == "unknown") {
			continue // An attestation of how another one was built.
		}
		if entry.Platform != nil && entry.Platform.OS == "linux" && entry.Platform.Architecture == runtime.GOARCH {
			return index.Image(entry.Digest)
		}
		images = append(images, entry)
	}
	if len(images) != 1 {
		return nil, r.unusable("has no variant for linux/%s among its %d", runtime.GOARCH, len(images))
	}
	return index.Image(images[0].Digest)
}

// unusable says what about the container image is not as a disk needs it.
func (r *Registry) unusable(format string, args ...any) error {
	return &Error{Reason: report.FormatNotSupported, Permanent: true, Field: "image",
		Message: fmt.Sprintf("the container image %s %s: build it as `FROM scratch` with `ADD --chown=107:107 IMAGE.qcow2 /disk/`",
			r.reference.Name(), fmt.Sprintf(format, args...))}
}

// noManifest says why what the registry sends is no manifest. It would not be one
// the next time either.
func (r *Registry) noManifest(why error) error {
	return &Error{Reason: report.FormatNotSupported, Permanent: true, Field: "image",
		Message: fmt.Sprintf("what the registry sends for %s is no manifest of a container image (%v): check registry, repository and tag", r.reference.Name(), why)}
}

// otherBytes says that something is not what its digest promises.
func otherBytes(what, got, want string) error {
	return &Error{Reason: report.ImageCorrupt, Permanent: true, Field: "image",
		Message: fmt.Sprintf("the registry sends a %s with the digest %s instead of %s: push the container image anew, or name another one", what, got, want)}
}

// isNoJSON tells whether an answer came as it should and cannot be read. Those for
// manifests are known by then, so it is the one of a token server.
func isNoJSON(err error) bool {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	return errors.As(err, &syntax) || errors.As(err, &kind)
}

// failure gives an error of the registry a reason.
func (r *Registry) failure(err error) error {
	if typed, ok := asError(err); ok {
		return r.renamed(typed)
	}
	if isNoJSON(err) {
		return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "image",
			Message: fmt.Sprintf("the registry has a token server that answers for %s with something else than a token (%v): check the registry's name", r.reference.Name(), err)}
	}
	if errors.Is(err, stream.ErrTooLong) {
		return r.noManifest(fmt.Errorf("it is longer than %d bytes", maxManifest))
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return r.renamed(r.blob(v1.Hash{}, nil).failure(err))
	}
	what := fmt.Sprintf("the registry answers %d %s for %s", answer.StatusCode, http.StatusText(answer.StatusCode), r.reference.Name())
	switch answer.StatusCode {
	case http.StatusNotFound:
		return &Error{Reason: report.SourceNotFound, Permanent: true, Field: "image", Message: what + ": check registry, repository and tag"}
	case http.StatusUnauthorized, http.StatusForbidden:
		// Registries say so of what does not exist, too.
		return &Error{Reason: report.SourceUnauthorized, Permanent: true, Field: "imagePullSecret",
			Message: what + ": check the image's name, and give credentials that may pull it in imagePullSecret"}
	}
	return &Error{Reason: report.SourceUnreachable, Permanent: answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests, Field: "image", Message: what}
}

// renamed makes a web server's failure one of a registry.
func (r *Registry) renamed(err error) error {
	typed, ok := asError(err)
	if !ok {
		return err
	}
	changed := *typed
	switch {
	case changed.Reason == report.SourceUnauthorized:
		changed.Field = "imagePullSecret"
	case changed.Field == "url":
		changed.Field = "image"
	}
	return &changed
}

// blob is a layer as something to be downloaded.
func (r *Registry) blob(digest v1.Hash, authorized http.RoundTripper) *HTTP {
	repository := r.reference.Context()
	from := &url.URL{Scheme: repository.Scheme(), Host: repository.RegistryStr(), Path: "/v2/" + repository.RepositoryStr() + "/blobs/" + digest.String()}
	blob := newHTTP(r.options.Timing, from, authorized, authorized)
	blob.immutable = true
	return blob
}

// guardedTransport keeps credentials from being sent without TLS to another host
// than the registry, and bounds all answers that are kept in memory.
type guardedTransport struct {
	base http.RoundTripper
	host string
}

// RoundTrip implements http.RoundTripper.
func (g *guardedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme == "http" && request.URL.Host != g.host && request.Header.Get("Authorization") != "" {
		return nil, &Error{Reason: report.SourceUnauthorized, Permanent: true, Field: "image",
			Message: fmt.Sprintf("the registry wants its credentials to be sent to %s without TLS, which is refused", request.URL.Host)}
	}
	response, err := g.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	asked := firstOf(request).URL.Path
	isManifest := strings.Contains(asked, "/manifests/")
	if !isManifest && (strings.Contains(request.URL.Path, "/blobs/sha") || request.URL.Host != g.host) {
		return response, nil
	}
	content := stream.AtMost(response.Body, maxManifest)
	if digest, err := v1.NewHash(path.Base(asked)); err == nil && isManifest && response.StatusCode == http.StatusOK {
		content = verified(content, digest)
	}
	response.Body = &boundBody{Reader: content, Closer: response.Body}
	return response, nil
}

// firstOf is the request that redirects began with.
func firstOf(request *http.Request) *http.Request {
	for request.Response != nil && request.Response.Request != nil {
		request = request.Response.Request
	}
	return request
}

type boundBody struct {
	io.Reader
	io.Closer
}

// verifiedReader compares the digest of a manifest with the one it was asked for by.
// The library does so, too, but its error cannot be told from one of the network.
type verifiedReader struct {
	io.Reader
	sum  hash.Hash
	want v1.Hash
}

func verified(content io.Reader, want v1.Hash) io.Reader {
	sum, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return content
	}
	return &verifiedReader{Reader: io.TeeReader(content, sum), sum: sum, want: want}
}

// Read implements io.Reader.
func (v *verifiedReader) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want.Hex {
		return n, otherBytes("manifest", v.want.Algorithm+":"+got, v.want.String())
	}
	return n, io.EOF
}
