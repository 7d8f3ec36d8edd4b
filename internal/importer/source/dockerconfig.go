// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// dockerConfig is the content of a Secret of type kubernetes.io/dockerconfigjson.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

// dockerAuth are the credentials for a registry or for a part of it.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credentialsFor picks the credentials of the repository. Without any the
// registry is asked anonymously.
func credentialsFor(content []byte, repository name.Repository) (authn.Authenticator, error) {
	if len(content) == 0 {
		return authn.Anonymous, nil
	}
	var config dockerConfig
	if err := json.Unmarshal(content, &config); err != nil {
		// The error could quote what is secret.
		return nil, badPullSecret("its .dockerconfigjson is not JSON with an object \"auths\"")
	}
	best := -1
	var found dockerAuth
	for key, auth := range config.Auths {
		if length, ok := covers(key, repository); ok && length > best {
			best, found = length, auth
		}
	}
	if best < 0 {
		return authn.Anonymous, nil
	}
	return found.authenticator()
}

// covers tells whether a key of the configuration is for the repository, and how
// precisely: registry.example, registry.example/team, https://registry.example/v1/.
func covers(key string, repository name.Repository) (int, bool) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(key, "/")
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = name.DefaultRegistry
	}
	if path = strings.Trim(path, "/"); path == "v1" || path == "v2" {
		path = ""
	}
	within := path == "" || repository.RepositoryStr() == path || strings.HasPrefix(repository.RepositoryStr(), path+"/")
	return len(path), strings.EqualFold(host, repository.RegistryStr()) && within
}

func (a dockerAuth) authenticator() (authn.Authenticator, error) {
	if a.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(a.Auth))
		user, password, found := strings.Cut(string(decoded), ":")
		if err != nil || !found {
			return nil, badPullSecret("an \"auth\" in it is not base64 of user:password")
		}
		a.Username, a.Password = user, strings.TrimRight(password, "\x00")
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}), nil
}

func badPullSecret(why string) error {
	return &Error{Reason: report.SourceUnauthorized, Permanent: true, Field: "imagePullSecret",
		Message: "the image pull secret cannot be used: " + why + "; make it with `kubectl create secret docker-registry`"}
}

// asError reports whether err is a source's own error.
func asError(err error) (*Error, bool) {
	var typed *Error
	ok := errors.As(err, &typed)
	return typed, ok
}
