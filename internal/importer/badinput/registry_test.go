// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	imageField   = "spec.dataSource.containerImage.image"
	secretField  = "spec.dataSource.containerImage.imagePullSecret"
	fromImage    = "--source-image=docker://HOST/team/disk:1"
)

// Remedies.
const (
	build       = ": build it as `FROM scratch` with `ADD --chown=107:107 IMAGE.qcow2 /disk/`"
	credentials = ": check the image's name, and give credentials that may pull it in imagePullSecret"
	secret      = "; make it with `kubectl create secret docker-registry`"
	anew        = ": push the container image anew, or name another one"
)

func noManifest(why string) string {
	return "what the registry sends for HOST/team/disk:1 is no manifest of a container image (" + why + "): check registry, repository and tag"
}

// entry is a file of a layer; a link if its content begins with "-> ".
type entry struct{ name, content string }

func layer(entries ...entry) []byte {
	var all bytes.Buffer
	writer := tar.NewWriter(&all)
	for _, e := range entries {
		header := tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if target, link := strings.CutPrefix(e.content, "-> "); link {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, target, 0
		}
		_ = writer.WriteHeader(&header)
		if header.Typeflag == tar.TypeReg {
			_, _ = writer.Write([]byte(e.content))
		}
	}
	_ = writer.Close()
	return all.Bytes()
}

func described(mediaType string, content []byte) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, mediaType, sha256Of(content), len(content))
}

func manifest(layers ...[]byte) string {
	var all []string
	for _, content := range layers {
		all = append(all, described(layerType, content))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`,
		manifestType, described("application/vnd.oci.image.config.v1+json", []byte("{}")), strings.Join(all, ","))
}

// images is a registry with one manifest, and with the given blobs by the digests
// that the manifest has for them.
func images(mediaType, manifest string, blobs ...[]byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", mediaType)
			_, _ = w.Write([]byte(manifest))
		default:
			for _, blob := range blobs {
				if strings.HasSuffix(r.URL.Path, sha256Of(blob)) {
					_, _ = w.Write(blob)
					return
				}
			}
			w.WriteHeader(http.StatusNotFound)
		}
	}
}

// image is a registry with a container image of the given layers.
func image(layers ...[]byte) http.HandlerFunc {
	return images(manifestType, manifest(layers...), append(layers, []byte("{}"))...)
}

// instead serves other bytes than the blob's.
func instead(blob, other []byte) http.HandlerFunc {
	good := image(blob)
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, sha256Of(blob)) {
			_, _ = w.Write(other)
			return
		}
		good(w, r)
	}
}

// guarded asks for a user and a password.
func guarded(challenge string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user == "robot" && password == "right" {
			status(404)(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func pullSecret(t *testing.T, content string) string {
	t.Helper()
	return "--source-auth-file=" + write(t, []byte(content))
}

// badImages are container images and their registries.
func badImages(t *testing.T) []bad {
	disk := layer(entry{"disk/", ""}, entry{"disk/disk.img", string(rawDisk())})
	page := layer(entry{"disk/disk.img", "<html>hello</html>"})
	basic := `Basic realm="images"`
	auths := func(auth string) string { return fmt.Sprintf(`{"auths":{"127.0.0.1":{"auth":%q}}}`, auth) }
	wrong := base64.StdEncoding.EncodeToString([]byte("robot:wrong"))
	table := []bad{
		{title: "no pull secret", server: guarded(basic),
			reason: report.SourceUnauthorized, message: "the registry answers 401 Unauthorized for HOST/team/disk:1" + credentials, field: secretField},
		{title: "a pull secret of another registry", server: guarded(basic), args: []string{pullSecret(t, `{"auths":{"registry.example":{"auth":"`+wrong+`"}}}`)},
			reason: report.SourceUnauthorized, message: "the registry answers 401 Unauthorized for HOST/team/disk:1" + credentials, field: secretField},
		{title: "a pull secret that is no JSON", server: guarded(basic), args: []string{pullSecret(t, "robot:wrong")},
			reason: report.SourceUnauthorized, message: "the image pull secret cannot be used: its .dockerconfigjson is not JSON with an object \"auths\"" + secret, field: secretField},
		{title: "a pull secret without a password", args: []string{pullSecret(t, auths(base64.StdEncoding.EncodeToString([]byte("robot")))), "--source-image=docker://127.0.0.1/team/disk:1"},
			reason: report.SourceUnauthorized, message: "the image pull secret cannot be used: an \"auth\" in it is not base64 of user:password" + secret, field: secretField},
		{title: "a pull secret in no base64", args: []string{pullSecret(t, auths("%%%")), "--source-image=docker://127.0.0.1/team/disk:1"},
			reason: report.SourceUnauthorized, message: "the image pull secret cannot be used: an \"auth\" in it is not base64 of user:password" + secret, field: secretField},
		{title: "tokens from another host without TLS", server: guarded(`Bearer realm="http://127.0.0.2/token",service="images"`),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: invalid realm in www-authenticate: realm host \"127.0.0.2\" is a private or link-local address", passes: true},
		{title: "tokens from a refused network", server: guarded(`Bearer realm="https://127.0.0.2/token",service="images"`), args: []string{"--refuse-network=127.0.0.2/31"},
			reason: report.SourceUnreachable, message: "HOST cannot be reached: invalid realm in www-authenticate: realm host \"127.0.0.2\" is a private or link-local address", passes: true},
		{title: "an unknown challenge", server: guarded("Negotiate"),
			reason: report.SourceUnauthorized, message: "the registry answers 401 Unauthorized for HOST/team/disk:1" + credentials, field: secretField},
		{title: "no such image", server: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusNotFound)
			}
		},
			reason: report.SourceNotFound, message: "the registry answers 404 Not Found for HOST/team/disk:1: check registry, repository and tag"},
		{title: "no registry", server: status(404),
			reason: report.SourceNotFound, message: "the registry answers 404 Not Found for HOST/team/disk:1: check registry, repository and tag"},
		{title: "a web page as a registry", server: file([]byte("<html>")),
			reason: report.FormatNotSupported, message: noManifest("invalid character '<' looking for beginning of value")},
		{title: "a registry that fails", server: status(500),
			reason: report.SourceUnreachable, message: "the registry answers 500 Internal Server Error for HOST/team/disk:1", passes: true},
		{title: "a registry in a refused network", server: image(disk), args: []string{"--refuse-network=127.0.0.0/8"},
			reason: report.SourceUnreachable, message: "the source is at 127.0.0.1, and images are not imported from the network 127.0.0.0/8"},
		{title: "no reference", args: []string{"--source-image=docker://Registry/Has Spaces"},
			reason: report.SourceNotFound, message: "\"docker://Registry/Has Spaces\" is no reference of a container image: write it as registry/repository:tag"},
		{title: "an empty reference", args: []string{"--source-image=docker://"},
			reason: report.SourceNotFound, message: "\"docker://\" is no reference of a container image: write it as registry/repository:tag"},
		{title: "another digest than asked for", server: image(disk), args: []string{"--source-image=docker://HOST/team/disk@sha256:" + strings.Repeat("0", 64)},
			reason: report.ImageCorrupt, message: "the registry sends a manifest with the digest sha256:6a35f3c3657033a068cc2d71a71bcc81eca3a753d3ff573b206d9a9a08177e4d instead of sha256:0000000000000000000000000000000000000000000000000000000000000000" + anew},
		{title: "a manifest that is no JSON", server: images(manifestType, "<html>"),
			reason: report.FormatNotSupported, message: noManifest("invalid character '<' looking for beginning of value")},
		{title: "a manifest of an unknown type", server: images("text/html", "<html>"),
			reason: report.FormatNotSupported, message: noManifest("invalid character '<' looking for beginning of value")},
		{title: "an endless manifest", server: images(manifestType, `{"layers":"`+strings.Repeat("x", 16<<20)+`"}`),
			reason: report.FormatNotSupported, message: noManifest("it is longer than 8388608 bytes")},
		{title: "an index of other processors", server: images(indexType, fmt.Sprintf(
			`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":2,"platform":{"os":"linux","architecture":"s390x"}},`+
				`{"mediaType":%q,"digest":"sha256:%s","size":2,"platform":{"os":"linux","architecture":"mips"}}]}`,
			indexType, manifestType, strings.Repeat("0", 64), manifestType, strings.Repeat("1", 64))),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 has no variant for linux/amd64 among its 2" + build},
		{title: "an image without layers", server: image(),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 holds no file in /disk, and none elsewhere that is named like a disk" + build},
		{title: "an image without /disk", server: image(layer(entry{"etc/os-release", "ID=debian"})),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 holds no file in /disk, and none elsewhere that is named like a disk" + build},
		{title: "two disks", server: image(layer(entry{"disk/a.img", string(rawDisk())}, entry{"disk/b.img", string(rawDisk())})),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 holds more than one file in /disk (b.img)" + build},
		{title: "two files that are named like disks", server: image(layer(entry{"a.qcow2", "x"}, entry{"b.qcow2", "x"})),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 holds no file in /disk and several that are named like disks (a.qcow2, b.qcow2)" + build},
		{title: "a disk that is a link", server: image(layer(entry{"disk/disk.img", "-> /etc/shadow"})),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 has /disk/disk.img as a link or a special file" + build},
		{title: "a disk that a later layer removes", server: image(disk, layer(entry{"disk/.wh.disk.img", ""})),
			reason: report.FormatNotSupported, message: "the container image HOST/team/disk:1 holds no file in /disk, and none elsewhere that is named like a disk" + build},
		{title: "a disk that is a web page", server: image(page),
			reason: report.FormatNotSupported, message: looksLike("text/html; charset=utf-8")},
		{title: "a disk with a backing file", server: image(layer(entry{"disk/disk.img", string(backing("/etc/passwd"))})),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a disk of 0 bytes", server: image(layer(entry{"disk/disk.img", ""})),
			reason: report.FormatNotSupported, message: "the file is empty"},
		{title: "a layer that is missing", server: images(manifestType, manifest(disk)),
			reason: report.SourceNotFound, message: "http://HOST/v2/team/disk/blobs/sha256:426f33d76eb930dbc028a996060714583324acce374775eb4b00d6f8ce9723b0 answers 404 Not Found: check the URL"},
		{title: "a layer that is no archive", server: image([]byte("no archive, but long enough to be one" + strings.Repeat(".", 1024))),
			reason: report.ImageCorrupt, message: "a layer of the container image cannot be read: archive/tar: invalid tar header"},
		{title: "a layer that is cut off", server: instead(disk, disk[:len(disk)/2]),
			reason: report.ImageCorrupt, message: "a layer of the container image cannot be read: unexpected EOF"},
		{title: "a layer of another digest", server: instead(disk, at(disk, 100_000, "other")),
			reason: report.ImageCorrupt, message: "the registry sends a layer with the digest sha256:5e1845d9599be3f152fe33fe886c4c3510a8d4a521ac41555f31e71b37f5857a instead of sha256:426f33d76eb930dbc028a996060714583324acce374775eb4b00d6f8ce9723b0" + anew},
		{title: "a layer that is another disk", server: instead(disk, layer(entry{"disk/disk.img", string(qcow2Disk())})),
			reason: report.ImageCorrupt, message: "the registry sends a layer with the digest sha256:da8c051089c83347dc57ea65402acaf9e7fb018de42fb0e4ad1605f1f5a4720f instead of sha256:426f33d76eb930dbc028a996060714583324acce374775eb4b00d6f8ce9723b0" + anew},
		{title: "a compressed layer that is cut off", server: image(gzipped(disk)[:1000]),
			reason: report.ImageCorrupt, message: "a layer of the container image cannot be read: unexpected EOF"},
	}
	for i, b := range table {
		if b.field == "" {
			table[i].field = imageField
		}
		// A case may name the image itself: the last one counts.
		table[i].args = append([]string{"--source-url=", fromImage}, b.args...)
	}
	return table
}

// badTargets are images that do not fit where they are wanted.
func badTargets(t *testing.T) []bad {
	onto := func(size int64) []string {
		return []string{"--destination=", "--target-volume=" + t.TempDir(), fmt.Sprintf("--target-size=%d", size)}
	}
	stream := golden(t, "streamOptimized.vmdk")
	spoilt := at(stream, len(stream)/2, strings.Repeat("spoilt", 500))
	return []bad{
		{title: "a raw disk that is larger than the volume", content: rawDisk(), args: onto(512 << 10),
			reason: report.VolumeTooSmall, message: "the image's disk has 1048576 bytes but this disk has 524288: 524288 are missing; set spec.persistentVolumeClaim.size to at least 1Mi", field: "spec.persistentVolumeClaim.size"},
		{title: "a qcow2 disk that is larger than the volume", content: qcow2Disk(), args: onto(1<<30 - 512),
			reason: report.VolumeTooSmall, message: "the image's disk has 1073741824 bytes but this disk has 1073741312: 512 are missing; set spec.persistentVolumeClaim.size to at least 1Gi", field: "spec.persistentVolumeClaim.size"},
		{title: "a web page for a volume", content: []byte("<html>"), args: onto(1 << 30),
			reason: report.FormatNotSupported, message: looksLike("text/html; charset=utf-8")},
		{title: "a backing file for a volume", content: backing("/etc/passwd"), args: onto(1 << 30),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "an L1 table with a wild entry", server: ranged(qcow2Disk(set(3<<16, be64(1<<40|1<<63)))), args: onto(1 << 30),
			reason: report.ImageCorrupt, message: "entry 0 of the qcow2 L1 table points to byte 1099511627776 but the file has only 262144: the file is truncated"},
		{title: "an L2 table in the header", server: ranged(qcow2Disk(set(3<<16, be64(1<<63)))), args: onto(1 << 30),
			reason: report.ImageCorrupt, message: "entry 0 of the qcow2 L1 table points to byte 0, which is no cluster behind the header"},
		{title: "an L2 table that is not aligned", server: ranged(qcow2Disk(set(3<<16, be64(1<<16+512|1<<63)))), args: onto(1 << 30),
			reason: report.ImageCorrupt, message: "entry 0 of the qcow2 L1 table points to byte 66048, which is no cluster behind the header"},
		{title: "a truncated raw.gz for a volume", content: gzipped(rawDisk())[:1000], args: onto(1 << 30),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (gzip): unexpected EOF" + repack},
		{title: "a wrong checksum on a volume", content: rawDisk(), args: append(onto(1<<30), "--checksum=md5:"+strings.Repeat("0", 32)), field: "spec.dataSource.http.checksum.md5",
			reason: report.ChecksumMismatch, message: "the md5 checksum of the downloaded file is f1c8ad3731cb95e3b473de7eafec4ec4, but 00000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "a spoilt stream vmdk for a volume", server: ranged(spoilt), args: onto(1 << 30),
			reason: report.ImageCorrupt, message: "the VMDK image's last grain ends at byte 1886685816 but the file has only 136704: the file is truncated"},
		{title: "a vmdk without ranges and without a stage", content: gzipped(stream), args: onto(1 << 30),
			reason: report.FormatNotSupported, message: "the image cannot be read at random where it is, which its format needs: publish it without compression on a server that supports ranges, or as a raw image"},
		{title: "a directory that is not there", content: rawDisk(), args: []string{"--destination=", "--target-volume=/nowhere/at/all", "--target-size=1048576"}, field: "-",
			reason: report.VolumeFailed, message: "the volume cannot be used: look at it: no such file or directory", passes: true},
	}
}
