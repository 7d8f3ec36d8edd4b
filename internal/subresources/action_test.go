// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// recorder plays KubeVirt: it notes the order and gives its answer.
type recorder struct {
	got    string
	answer error
}

func (r *recorder) put(_ context.Context, namespace, name string, body any, path ...string) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r.got = namespace + "/" + name + "/" + strings.Join(path, "/") + " " + string(content)
	return r.answer
}

// send puts an order to a storage of the machine web, which is in the phase.
func send(t *testing.T, phase v1alpha2.MachinePhase, storage *actionStorage, query, body string) *http.Response {
	t.Helper()
	machine := machineNamed("web", phase)
	machine.Status.NodeName = "node-1"
	storage.machines = kubeWith(t, &machine)
	return serve(t, storage, query, body)
}

func serve(t *testing.T, storage *actionStorage, query, body string) *http.Response {
	t.Helper()
	request := httptest.NewRequest(http.MethodPut, "/?"+query, strings.NewReader(body))
	ctx := genericapirequest.WithNamespace(request.Context(), "team")
	answer := httptest.NewRecorder()
	handler, err := storage.Connect(ctx, "web", nil, statusResponder{answer})
	if err != nil {
		statusResponder{answer}.Error(err)
	} else {
		handler.ServeHTTP(answer, request.WithContext(ctx))
	}
	return answer.Result()
}

func TestOrdersReachKubeVirt(t *testing.T) {
	for _, test := range []struct {
		title, name string
		phase       v1alpha2.MachinePhase
		query, body string
		want        string
		code        int
	}{
		{title: "freeze thaws by itself", name: "freeze", phase: "Running", want: `team/web/freeze {"unfreezeTimeout":"5m0s"}`, code: 202},
		{title: "time in the query", name: "freeze", phase: "Running", query: "unfreezeTimeout=30s", want: `team/web/freeze {"unfreezeTimeout":"30s"}`, code: 202},
		{title: "time in the body", name: "freeze", phase: "Running", body: `{"unfreezeTimeout":"90s"}`, want: `team/web/freeze {"unfreezeTimeout":"1m30s"}`, code: 202},
		{title: "frozen until told otherwise", name: "freeze", phase: "Running", body: `{"unfreezeTimeout":"0s"}`, want: `team/web/freeze {"unfreezeTimeout":"0s"}`, code: 202},
		{title: "unfreeze", name: "unfreeze", phase: "Running", want: `team/web/unfreeze {}`, code: 202},
		{
			title: "stay on the node", name: "cancelevacuation", phase: "Running",
			want: `team/web/evacuate/cancel {"evacuationNodeName":"node-1"}`, code: 200,
		},
		{
			title: "only try it", name: "cancelevacuation", phase: "Migrating", body: `{"dryRun":["All"]}`,
			want: `team/web/evacuate/cancel {"dryRun":["All"],"evacuationNodeName":"node-1"}`, code: 200,
		},
	} {
		t.Run(test.title, func(t *testing.T) {
			engine := &recorder{}
			resp := send(t, test.phase, engineAction(test.name, engine), test.query, test.body)
			if resp.StatusCode != test.code || engine.got != test.want {
				t.Errorf("got %d, KubeVirt was told %s; want %s", resp.StatusCode, engine.got, test.want)
			}
		})
	}
}

// engineAction is the order of that name as the server has it.
func engineAction(name string, engine *recorder) *actionStorage {
	for _, action := range actions(nil, engine.put) {
		if action.name == name {
			return &action
		}
	}
	return nil
}

func TestOrdersAreRefused(t *testing.T) {
	for _, test := range []struct {
		title, name string
		phase       v1alpha2.MachinePhase
		query, body string
		code        int
		want        string
	}{
		{"stopped", "freeze", "Stopped", "", "", 409, "the machine is Stopped: freeze needs it to be Running; start it first"},
		{"moving", "freeze", "Migrating", "", "", 409, "the machine is Migrating: freeze needs it to be Running"},
		{"stopped", "unfreeze", "Stopped", "", "", 409, "unfreeze needs it to be Running"},
		{"stopped", "cancelevacuation", "Stopped", "", "", 409, "cancelevacuation needs it to be Running or Migrating"},
		{"no duration", "freeze", "Running", "unfreezeTimeout=soon", "", 400, "unfreezeTimeout=soon: give a duration, such as 5m or 30s"},
		{"negative", "freeze", "Running", "unfreezeTimeout=-5s", "", 400, "unfreezeTimeout=-5s: give a duration"},
		{"a number", "freeze", "Running", "", `{"unfreezeTimeout":5}`, 400, "the body is not what this subresource takes"},
		{"no JSON", "freeze", "Running", "", "unfreezeTimeout: 5m", 400, "the body is not what this subresource takes"},
		{"no JSON", "cancelevacuation", "Running", "", "{", 400, "the body is not what this subresource takes"},
		{"half a dry run", "cancelevacuation", "Running", "", `{"dryRun":["Some"]}`, 400, "dryRun: Some: use All"},
		{"too long", "freeze", "Running", "", strings.Repeat("x", maxBody+1), 413, "the body of freeze has at most 65536 bytes"},
	} {
		t.Run(test.name+" "+test.title, func(t *testing.T) {
			engine := &recorder{}
			expectStatus(t, send(t, test.phase, engineAction(test.name, engine), test.query, test.body), test.code, test.want)
			if engine.got != "" {
				t.Errorf("KubeVirt was told %s", engine.got)
			}
		})
	}
}

func TestOrdersToNobody(t *testing.T) {
	storage := engineAction("freeze", &recorder{})
	storage.machines = kubeWith(t)
	expectStatus(t, serve(t, storage, "", ""), 404, `"web" not found`)
}

func TestWhatKubeVirtAnswersToAnOrder(t *testing.T) {
	for _, test := range []struct {
		title  string
		answer error
		code   int
		want   string
	}{
		{"gone", &apierrors.StatusError{ErrStatus: metav1.Status{Code: 404, Message: "no instance"}}, 409, "the guest is not running yet: no instance"},
		{"no agent", apierrors.NewInternalError(errors.New("agent is not connected")), 409,
			"the agent in the guest does not answer, and only it can do that: install and start qemu-guest-agent"},
		{"lost", errors.New("connection refused"), 500, "freeze of web at KubeVirt: connection refused"},
	} {
		t.Run(test.title, func(t *testing.T) {
			expectStatus(t, send(t, "Running", engineAction("freeze", &recorder{answer: test.answer}), "", ""), test.code, test.want)
		})
	}
}

// An agent that is known to answer is not blamed.
func TestAgentErrorWithAnAgent(t *testing.T) {
	machine := machineNamed("web", "Running")
	machine.Status.Conditions = []metav1.Condition{{Type: "AgentReady", Status: "True"}}
	err := agentError("freeze", &machine, apierrors.NewInternalError(errors.New("the disk is on fire")))
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("got %v", err)
	}
}
