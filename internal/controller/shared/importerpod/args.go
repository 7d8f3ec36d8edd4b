// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Keys of the Secret.
const (
	// KeyCheckpoint is written while the transfer goes on, see Checkpoints.
	KeyCheckpoint = "checkpoint"
	// KeyUploadToken is kept over the life of an upload's Pods: its URL is told to
	// the user once.
	KeyUploadToken = "upload-token"

	keyToken    = "token"
	keyCA       = "ca.crt"
	keySourceCA = "source-ca.crt"
	keyAuth     = "auth.json"
)

const (
	secretPath = "/etc/importer"
	statePath  = "/var/lib/importer"
	tmpPath    = "/tmp"
)

// Secret holds what the importer must not get by its arguments.
func Secret(o Order) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: o.meta(),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyToken: []byte(o.Credential.Token), keyCA: o.Settings.CABundle.PEM()},
	}
	put := func(key string, value []byte) {
		if len(value) > 0 {
			secret.Data[key] = value
		}
	}
	put(KeyCheckpoint, o.Checkpoint)
	put(keySourceCA, o.Source.caBundle())
	if o.Source.Registry != nil {
		put(keyAuth, o.Source.Registry.DockerConfig)
	}
	if upload := o.Source.Upload; upload != nil {
		put(KeyUploadToken, []byte(upload.Token))
		secret.Annotations = map[string]string{AnnotationUploadExpiry: formatTime(upload.ExpiresAt)}
	}
	return secret
}

func (s Source) caBundle() []byte {
	switch {
	case s.HTTP != nil:
		return s.HTTP.CABundle
	case s.Registry != nil:
		return s.Registry.CABundle
	}
	return nil
}

func (o Order) args() []string {
	args := []string{o.verb()}
	args = append(args, o.Source.args(o.Settings)...)
	if !o.Inspect {
		args = append(args, o.Target.args()...)
	}
	args = append(args,
		"--registry-ca-file="+secretPath+"/"+keyCA,
		"--token-file="+secretPath+"/"+keyToken,
		"--report-url="+o.Settings.ReportURL,
		"--state-dir="+statePath,
		"--checkpoint-file="+secretPath+"/"+KeyCheckpoint,
	)
	return append(args, o.Settings.LogArgs...)
}

func (o Order) verb() string {
	switch {
	case o.Inspect:
		return "inspect"
	case o.Source.Upload != nil:
		return "upload"
	}
	return "import"
}

func (s Source) args(settings Settings) []string {
	var args []string
	var checksums []string
	outside := false
	switch {
	case s.HTTP != nil:
		args, checksums, outside = []string{"--source-url=" + s.HTTP.URL}, s.HTTP.Checksums, true
	case s.Registry != nil:
		outside = true
		args = []string{"--source-image=" + imageURL(s.Registry.Image)}
		if len(s.Registry.DockerConfig) > 0 {
			args = append(args, "--source-auth-file="+secretPath+"/"+keyAuth)
		}
	case s.DVCR != nil:
		args = []string{"--source-dvcr=" + s.DVCR.Reference}
	case s.Volume != nil:
		args = []string{"--source-volume=" + s.Volume.path(sourceVolume)}
	case s.Upload != nil:
		checksums = s.Upload.Checksums
		args = []string{
			"--listen=:" + strconv.Itoa(UploadPort),
			"--upload-token-file=" + secretPath + "/" + KeyUploadToken,
			"--upload-expires=" + formatTime(s.Upload.ExpiresAt),
		}
	}
	if len(s.caBundle()) > 0 {
		args = append(args, "--source-ca-file="+secretPath+"/"+keySourceCA)
	}
	for _, checksum := range checksums {
		args = append(args, "--checksum="+checksum)
	}
	if outside {
		for _, network := range settings.RefuseNetworks {
			args = append(args, "--refuse-network="+network)
		}
	}
	return args
}

func (t Target) args() []string {
	if t.Volume == nil {
		return []string{"--destination=" + t.DVCR.Reference}
	}
	args := []string{"--target-volume=" + t.Volume.path(targetVolume), "--target-size=" + strconv.FormatInt(t.Size, 10)}
	if t.Stage != "" {
		args = append(args, "--stage="+t.Stage)
	}
	return args
}

// imageURL adds the scheme that users leave out as often as not.
func imageURL(image string) string {
	const scheme = "docker://"
	return scheme + strings.TrimPrefix(image, scheme)
}

// Checksums lists the wanted digests as <algorithm>:<hex>, sorted by algorithm.
func Checksums(checksum *v1alpha2.Checksum) []string {
	if checksum == nil {
		return nil
	}
	var out []string
	for _, digest := range []struct{ algorithm, hex string }{
		{"md5", checksum.MD5}, {"sha1", checksum.SHA1}, {"sha256", checksum.SHA256}, {"sha512", checksum.SHA512},
		{"streebog256", checksum.Streebog256}, {"streebog512", checksum.Streebog512},
	} {
		if digest.hex != "" {
			out = append(out, digest.algorithm+":"+digest.hex)
		}
	}
	return out
}
