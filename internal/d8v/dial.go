// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	gorilla "github.com/gorilla/websocket"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/subresources/names"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// streamPath is where a stream of a machine is, below the server's root.
func streamPath(key client.ObjectKey, stream string) []string {
	return []string{"apis", names.Group, names.Version, "namespaces", key.Namespace, "virtualmachines", key.Name, stream}
}

// open opens a stream of a machine. The server's refusal keeps its kind.
func (c *cli) open(ctx context.Context, key client.ObjectKey, stream string, query url.Values) (*gorilla.Conn, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, c.explain(err)
	}
	return wsdial.Dial(ctx, config, wsdial.Target{Path: streamPath(key, stream), Query: query, Subprotocol: names.Subprotocol})
}

// hangUp ends a stream in good order.
func hangUp(conn *gorilla.Conn) {
	_ = conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, ""), time.Now().Add(time.Second))
	_ = conn.Close()
}

// holder is who uses a console or a display.
type holder struct {
	Name   string      `json:"holder"`
	Since  metav1.Time `json:"startTime"`
	Client string      `json:"client"`
}

// String implements fmt.Stringer.
func (h *holder) String() string {
	text := h.Name
	if h.Client != "" {
		text += " (" + h.Client + ")"
	}
	if !h.Since.IsZero() {
		text += " since " + h.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// holder is who uses the stream; without a name when nobody does, or the server does
// not tell.
func (c *cli) holder(ctx context.Context, key client.ObjectKey, stream string) (*holder, error) {
	cluster, err := c.cluster()
	if err != nil {
		return nil, err
	}
	text, err := cluster.CoreV1().RESTClient().Get().AbsPath(streamPath(key, stream)...).Param("probe", "true").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	held := &holder{}
	if err := json.Unmarshal(text, held); err != nil {
		return &holder{}, nil //nolint:nilerr // an answer of another form names nobody
	}
	return held, nil
}

// began is when the console's present session began by the server's clock; zero when
// the server does not tell.
func (c *cli) began(ctx context.Context, key client.ObjectKey) time.Time {
	held, err := c.holder(ctx, key, "console")
	if err != nil {
		return time.Time{}
	}
	return held.Since.Time
}

// otherHolder is who uses the stream, when that is somebody else; nil when it is
// free, the user's own, or the server does not tell. A server that does not answer
// the question would not take the stream away from anybody unasked either.
func (c *cli) otherHolder(ctx context.Context, key client.ObjectKey, stream string) (*holder, error) {
	held, err := c.holder(ctx, key, stream)
	if err != nil || held.Name == "" {
		return nil, err
	}
	cluster, err := c.cluster()
	if err != nil {
		return nil, err
	}
	me, err := cluster.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("finding out whether %s is you: %w", held.Name, err)
	}
	if me.Status.UserInfo.Username == held.Name {
		return nil, nil
	}
	return held, nil
}
