// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// counted compares what is counted with what a scrape would show.
func counted(m *streamMetrics, open, opened string) error {
	err := testutil.CollectAndCompare(m.open, strings.NewReader(
		"# HELP d8_virtualization_api_open_streams Streams to guests that are open at this replica: console, vnc, portforward.\n"+
			"# TYPE d8_virtualization_api_open_streams gauge\n"+open))
	if err != nil {
		return err
	}
	return testutil.CollectAndCompare(m.opened, strings.NewReader(
		"# HELP d8_virtualization_api_opened_streams_total Streams to guests that were opened at this replica since it started.\n"+
			"# TYPE d8_virtualization_api_opened_streams_total counter\n"+opened))
}

func TestStreamsAreCounted(t *testing.T) {
	s := newStreamServer(t)
	expect := func(open, opened string) {
		t.Helper()
		if err := counted(s.metrics, open, opened); err != nil {
			t.Error(err)
		}
	}
	s.metrics.expect("console")
	expect("d8_virtualization_api_open_streams{stream=\"console\"} 0\n",
		"d8_virtualization_api_opened_streams_total{stream=\"console\"} 0\n")

	console, port := s.mustOpen(t, "alice", "/console"), s.mustOpen(t, "alice", "/portforward?port=22")
	// Neither who is refused has a stream, nor who only asks.
	if _, _, err := s.open(t, "bob", "/console"); err == nil {
		t.Error("the console is in use")
	}
	s.get(t, "alice", "/console?probe=true")
	expect("d8_virtualization_api_open_streams{stream=\"console\"} 1\nd8_virtualization_api_open_streams{stream=\"portforward\"} 1\n",
		"d8_virtualization_api_opened_streams_total{stream=\"console\"} 1\nd8_virtualization_api_opened_streams_total{stream=\"portforward\"} 1\n")

	for _, conn := range []*websocket.Conn{console, port} {
		_ = conn.NetConn().Close()
	}
	var err error
	for range 1000 {
		err = counted(s.metrics, "d8_virtualization_api_open_streams{stream=\"console\"} 0\nd8_virtualization_api_open_streams{stream=\"portforward\"} 0\n",
			"d8_virtualization_api_opened_streams_total{stream=\"console\"} 1\nd8_virtualization_api_opened_streams_total{stream=\"portforward\"} 1\n")
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(err)
}

func TestMetricsAreNamedAsPrometheusWants(t *testing.T) {
	m := newStreamMetrics()
	m.expect("console")
	problems, err := testutil.CollectAndLint(m.open)
	more, errMore := testutil.CollectAndLint(m.opened)
	if len(problems)+len(more) > 0 || err != nil || errMore != nil {
		t.Errorf("%v %v %v %v", problems, more, err, errMore)
	}
	if first, second := served(), served(); first != second {
		t.Error("a program registers its metrics once")
	}
}
