// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const helloGuest = "hello.quickstart"

// login is the way into the Debian guest of "make up".
type login struct {
	folder, key string
}

// TestAccess goes into the Debian guest by every way that the client has.
func TestAccess(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "quickstart", Name: "hello"}}
	waitReady(ctx, t, m)
	way := &login{folder: t.TempDir()}
	t.Run("ssh by password, to leave a key", func(t *testing.T) { way.leaveKey(ctx, t) })
	t.Run("ssh by key", func(t *testing.T) {
		if got := way.ssh(ctx, t, "echo answer=$((6*7))"); got != "answer=42\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("scp", func(t *testing.T) { way.checkCopies(ctx, t) })
	t.Run("port-forward", func(t *testing.T) { way.checkForwarding(ctx, t) })
	t.Run("ansible-inventory", func(t *testing.T) { way.checkInventory(ctx, t) })
	t.Run("vnc", func(t *testing.T) { checkProxyOfDisplay(ctx, t) })
	t.Run("collect-debug-info", func(t *testing.T) { checkDebugInfo(ctx, t) })
	t.Run("as a plugin of kubectl", func(t *testing.T) { checkPlugin(ctx, t) })
	t.Run("the console survives the server", func(t *testing.T) { checkReconnect(ctx, t) })
}

// client runs the client to its end.
func client8v(ctx context.Context, t *testing.T, stdin io.Reader, environment []string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(ctx, d8v, args...)
	var out, said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = stdin, &out, &said
	command.Env = append(os.Environ(), environment...)
	if err := command.Run(); err != nil {
		t.Fatalf("d8v %s: %v\n%s%s", strings.Join(args, " "), err, said.String(), out.String())
	}
	return out.String()
}

// options keep the test from what the user who runs it has for ssh.
func (w *login) options() []string {
	return []string{"--known-hosts", filepath.Join(w.folder, "known"), "-t-F/dev/null", "-t-oLogLevel=ERROR"}
}

// leaveKey logs in by the password that the guest's cloud-init data have set.
func (w *login) leaveKey(ctx context.Context, t *testing.T) {
	w.key = filepath.Join(w.folder, "key")
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.Open(w.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = public.Close() }()
	ask := filepath.Join(w.folder, "ask")
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho virtualization\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"ssh", "user@" + helloGuest, "-t-oPubkeyAuthentication=no"}, w.options()...)
	client8v(ctx, t, public, []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force"},
		append(args, "--", "mkdir -p -m 700 .ssh && cat > .ssh/authorized_keys")...)
}

func (w *login) ssh(ctx context.Context, t *testing.T, command string) string {
	t.Helper()
	args := append([]string{"ssh", "user@" + helloGuest, "-i", w.key, "-t-oBatchMode=yes"}, w.options()...)
	return client8v(ctx, t, strings.NewReader(""), nil, append(args, "--", command)...)
}

// checkCopies compares a file here, in the guest, and after it came back.
func (w *login) checkCopies(ctx context.Context, t *testing.T) {
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	sent, back := filepath.Join(w.folder, "sent"), filepath.Join(w.folder, "back")
	if err := os.WriteFile(sent, content, 0o600); err != nil {
		t.Fatal(err)
	}
	options := append([]string{"scp", "-i", w.key}, w.options()...)
	client8v(ctx, t, nil, nil, append(options, sent, "user@"+helloGuest+":copied")...)
	digest := sha256.Sum256(content)
	if got := w.ssh(ctx, t, "sha256sum copied"); !strings.HasPrefix(got, hex.EncodeToString(digest[:])) {
		t.Errorf("in the guest it is %q, want %x", got, digest)
	}
	client8v(ctx, t, nil, nil, append(options, "user@"+helloGuest+":copied", back)...)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what came back differs: %v", err)
	}
}

// echo is a service of the guest: it sends back what it gets, by TCP and by UDP, until
// the connection that started it ends.
const echo = `
import os, socket, sys, threading
tcp = socket.create_server(("", 7007))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 7007))
def streams():
    while True:
        conn, _ = tcp.accept()
        data = conn.recv(65536)
        conn.sendall(data.upper())
        conn.close()
def leave():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=streams, daemon=True).start()
threading.Thread(target=leave, daemon=True).start()
print("ECHO-READY", flush=True)
while True:
    data, sender = udp.recvfrom(65536)
    udp.sendto(data.upper(), sender)
`

// running is a program whose output is read while it runs; it is ended with the test.
func running(ctx context.Context, t *testing.T, args ...string) *console {
	t.Helper()
	c := &console{t: t}
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, d8v, args...)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.input, command.Stdout, command.Stderr = input, c, c
	command.WaitDelay = 5 * time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait()
	})
	return c
}

// sees waits for a text without typing anything.
func (c *console) sees(ctx context.Context, pattern string) []string {
	c.t.Helper()
	expression := regexp.MustCompile(pattern)
	for {
		if match := expression.FindStringSubmatch(c.text()); match != nil {
			return match
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("it never showed %q; it showed:\n%s", pattern, c.text())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *login) checkForwarding(ctx context.Context, t *testing.T) {
	args := append([]string{"ssh", "user@" + helloGuest, "-i", w.key}, w.options()...)
	service := running(ctx, t, append(args, "--", fmt.Sprintf("python3 -c '%s'", echo))...)
	service.sees(ctx, "ECHO-READY")
	forward := running(ctx, t, "port-forward", helloGuest, "0:7007", "udp/0:7007")
	for _, protocol := range []string{"tcp", "udp"} {
		address := forward.sees(ctx, protocol+`/([\d.:]+) to port 7007`)[1]
		conn, err := net.DialTimeout(protocol, address, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, "over "+protocol); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 64)
		n, err := conn.Read(answer)
		if got, want := string(answer[:n]), strings.ToUpper("over "+protocol); got != want {
			t.Errorf("got %q, want %q: %v\n%s", got, want, err, forward.text())
		}
		_ = conn.Close()
	}
}

// checkInventory logs in by what Ansible is told.
func (w *login) checkInventory(ctx context.Context, t *testing.T) {
	text := client8v(ctx, t, nil, nil, "ansible-inventory", "--list", "-n", "quickstart", "--ssh-user", "user")
	var inventory struct {
		Meta struct {
			HostVars map[string]map[string]string `json:"hostvars"`
		} `json:"_meta"`
		Running struct{ Hosts []string } `json:"phase_Running"`
	}
	if err := json.Unmarshal([]byte(text), &inventory); err != nil {
		t.Fatal(err)
	}
	host, known := inventory.Meta.HostVars[helloGuest]
	if !known || len(inventory.Running.Hosts) != 1 {
		t.Fatalf("got %s", text)
	}
	line := fmt.Sprintf("ssh -F /dev/null -o UserKnownHostsFile=%s/known -o LogLevel=ERROR -o BatchMode=yes -i %s %s %s@%s hostname",
		w.folder, w.key, host["ansible_ssh_common_args"], host["ansible_user"], host["ansible_host"])
	command := exec.CommandContext(ctx, "sh", "-c", line)
	// The tunnel may be cut, and say so, before ssh has ended it, when the guest has said all and hung up.
	var noise bytes.Buffer
	command.Stderr = &noise
	if out, err := command.Output(); err != nil || string(out) != "hello\n" {
		t.Errorf("%s: %q, %v: %s", line, out, err, &noise)
	}
}

// checkProxyOfDisplay reads the greeting of VNC through the proxy.
func checkProxyOfDisplay(ctx context.Context, t *testing.T) {
	proxy := running(ctx, t, "vnc", helloGuest, "--proxy-only", "--take-over")
	port := proxy.sees(ctx, `"port":(\d+)`)[1]
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", port), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "RFB " {
		t.Errorf("got %q, %v\n%s", greeting, err, proxy.text())
	}
}

func checkDebugInfo(ctx context.Context, t *testing.T) {
	content := client8v(ctx, t, nil, nil, "collect-debug-info", helloGuest, "-o", "-")
	compressed, err := gzip.NewReader(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
		for _, secret := range []string{"plain_text_passwd", "cGxhaW5fdGV4dF9wYXNzd2Q"} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has %s", header.Name, secret)
			}
		}
	}
	logs := 0
	for name, text := range files {
		if strings.HasPrefix(name, "logs/virt-launcher-hello-") && text != "" {
			logs++
		}
	}
	for _, name := range []string{
		"virtualmachine/hello.yaml", "virtualdisk/hello-root.yaml", "virtualimage/debian-13.yaml",
		"kubevirt/virtualmachine/hello.yaml", "kubevirt/virtualmachineinstance/hello.yaml",
	} {
		if files[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if logs == 0 || files["not-collected.txt"] != "" {
		t.Errorf("%d logs; not collected: %s", logs, files["not-collected.txt"])
	}
}

// checkPlugin calls the client through kubectl, and completes a name for it.
func checkPlugin(ctx context.Context, t *testing.T) {
	sandbox, err := filepath.Abs("../../bin/sandbox")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(d8v, filepath.Join(folder, "kubectl-d8v")); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, sandbox, "kubectl", "d8v", "__complete", "console", "-n", "quickstart", "he")
	command.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
	if out, err := command.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "hello\tRunning\n") {
		t.Errorf("got %q, %v", out, err)
	}
}

// checkReconnect restarts the server under an open console.
func checkReconnect(ctx context.Context, t *testing.T) {
	c := running(ctx, t, "console", helloGuest, "--take-over")
	c.sees(ctx, "Connected to quickstart/hello")
	c.expect(ctx, "login:")
	restart(ctx, t, "virtualization-api")
	c.sees(ctx, "Connected to quickstart/hello again")
	before := strings.Count(c.text(), "login:")
	for strings.Count(c.text(), "login:") == before {
		if ctx.Err() != nil {
			t.Fatalf("the guest is not heard any more:\n%s", c.text())
		}
		c.send("")
		time.Sleep(time.Second)
	}
}

// checkOrdersOfTheClient restarts a running machine and waits for the end of it.
func checkOrdersOfTheClient(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	before := guestUID(ctx, t, m)
	client8v(ctx, t, nil, nil, "restart", m.Name+"."+m.Namespace, "--force", "--wait")
	if after := guestUID(ctx, t, m); after == before || after == "" {
		t.Errorf("guest %q became %q", before, after)
	}
	out, err := exec.CommandContext(ctx, d8v, "start", "-n", m.Namespace, m.Name).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Start needs a machine in phase Stopped or Stopping") {
		t.Errorf("starting what runs: %q, %v", out, err)
	}
}
