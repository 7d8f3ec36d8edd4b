// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/http"
	"strings"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/gorilla/mux"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	accessControllerName = "virtualization-token"
	verifierOption       = "verifier"
	challengeHeader      = `Basic realm="dvcr", charset="UTF-8"`
)

func init() {
	err := auth.Register(accessControllerName, func(options map[string]any) (auth.AccessController, error) {
		verifier, ok := options[verifierOption].(*token.Verifier)
		if !ok || verifier == nil {
			return nil, errors.New("no token verifier is configured")
		}
		return &accessController{verifier: verifier}, nil
	})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

// accessController lets a request pass when its token names every access that
// the request needs. There is no anonymous access at all.
type accessController struct {
	verifier *token.Verifier
}

// Authorized implements auth.AccessController.
func (c *accessController) Authorized(r *http.Request, wanted ...auth.Access) (*auth.Grant, error) {
	claims, err := authenticate(r, c.verifier)
	if err != nil {
		return nil, challenge{err}
	}
	resources := make([]auth.Resource, 0, len(wanted))
	for _, access := range wanted {
		if !allows(claims, r, access) {
			return nil, challenge{auth.ErrAuthenticationFailure}
		}
		resources = append(resources, access.Resource)
	}
	identify(r, claims, resources)
	return &auth.Grant{User: auth.UserInfo{Name: claims.Subject}, Resources: resources}, nil
}

// allows tells whether the token permits what the request needs.
func allows(claims *token.Claims, r *http.Request, access auth.Access) bool {
	if claims.Allows(access.Type, access.Name, neededAction(r, access.Action)) {
		return true
	}
	// An upload's status is read with GET, but is a matter of pushing.
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	return reads && !isUpload(r) && claims.AllowsEverywhere(access.Type, access.Action)
}

// identify tells the garbage collection who relies on what the request looks at.
// Whoever cannot push does not: a node that pulls, a look whether an image is there.
func identify(r *http.Request, claims *token.Claims, resources []auth.Resource) {
	var names []string
	pushes := false
	for _, resource := range resources {
		names = append(names, resource.Name)
		pushes = pushes || claims.Allows(resource.Type, resource.Name, token.ActionPush)
	}
	if !pushes {
		gc.OnlyReads(r.Context())
		return
	}
	gc.Identify(r.Context(), claims.Subject, names...)
}

// neededAction maps the action that distribution derives from the method.
// Cancelling one's own upload is a part of pushing, although its method is
// DELETE: an importer that gives up must be able to free the space at once.
func neededAction(r *http.Request, action string) string {
	if action == token.ActionDelete && isUpload(r) {
		return token.ActionPush
	}
	return action
}

func isUpload(r *http.Request) bool {
	route := mux.CurrentRoute(r)
	return route != nil && route.GetName() == v2.RouteNameBlobUploadChunk
}

// authenticate finds the request's token: the password of Basic credentials
// with any user name, which is what container tools can send, or a Bearer token.
func authenticate(r *http.Request, verifier *token.Verifier) (*token.Claims, error) {
	if _, password, ok := r.BasicAuth(); ok {
		return verifier.Verify(password)
	}
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return verifier.Verify(strings.TrimSpace(credentials))
	}
	return nil, auth.ErrInvalidCredential
}

// challenge is a refusal that makes distribution answer 401 and tells the
// client which credentials to send.
type challenge struct{ error }

var _ auth.Challenge = challenge{}

// SetHeaders implements auth.Challenge.
func (challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", challengeHeader)
}

// Unwrap gives access to the cause.
func (c challenge) Unwrap() error { return c.error }
