// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package objectstore

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/server"
)

const (
	bucketName = "images"
	accessKey  = "AKIAEXAMPLE"
	secretKey  = "secret-example"
	// patience is for a machine that is busy with other tests.
	patience = time.Minute
)

// store is Versity's gateway in front of a directory: bucket NAME is the directory NAME.
type store struct {
	address string
	// root holds the buckets, metadata what a file system may not have room for, and certificates the TLS files.
	root, metadata, certificates string
	process                      *exec.Cmd
	output                       bytes.Buffer
}

// startStore runs an object storage with an empty bucket until the test ends, over HTTPS as in life.
func startStore(t *testing.T) *store {
	t.Helper()
	s := &store{address: freeAddress(t), root: t.TempDir(), metadata: t.TempDir(), certificates: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.root, bucketName), 0o755); err != nil {
		t.Fatal(err)
	}
	s.writeCertificate(t)
	s.start(t)
	t.Cleanup(func() {
		s.kill(t)
		if t.Failed() {
			t.Log(s.output.String())
		}
	})
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// writeCertificate takes the certificate that Go's own servers are tested with; it is its own authority.
func (s *store) writeCertificate(t *testing.T) {
	t.Helper()
	example := httptest.NewTLSServer(http.NotFoundHandler())
	defer example.Close()
	pair := example.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.certificates, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	write(t, filepath.Join(s.certificates, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts the process, once more if it was killed, and waits until it answers.
func (s *store) start(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath(filepath.Join(cmp.Or(os.Getenv("OBJECT_STORE"), "."), "versitygw"))
	if err != nil {
		t.Fatalf("%v: set OBJECT_STORE to the folder that `bin/sandbox build versitygw` prints", err)
	}
	s.process = exec.Command(program,
		"--port", s.address, "--access", accessKey, "--secret", secretKey,
		"--cert", filepath.Join(s.certificates, "tls.crt"), "--key", filepath.Join(s.certificates, "tls.key"),
		"posix", "--sidecar", s.metadata, s.root)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		connection, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			connection.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// kill ends the process in the middle of whatever it does.
func (s *store) kill(t *testing.T) {
	t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = s.process.Wait() // It says that it was killed.
}

// settings is a folder as the chart's Secret is mounted in the registry. What is given stands instead of what is right;
// a file that is given nothing is left out.
func (s *store) settings(t *testing.T, others map[string]string) string {
	t.Helper()
	authority, err := os.ReadFile(filepath.Join(s.certificates, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"bucket": bucketName, "region": "us-east-1", "regionEndpoint": "https://" + s.address,
		"accessKey": accessKey, "secretKey": secretKey, "ca.crt": string(authority),
	} {
		if other, given := others[name]; given {
			content = other
		}
		if content != "" {
			write(t, filepath.Join(dir, name), []byte(content))
		}
	}
	return dir
}

// forgetAuthorities undoes what the storage's client does with a trusted authority: the whole process gets to know it.
func forgetAuthorities(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_CA_BUNDLE", "")
	http.DefaultClient.Transport = nil
}

// bucket is how a registry reaches it.
func (s *store) bucket(t *testing.T) *server.Bucket {
	t.Helper()
	forgetAuthorities(t)
	bucket, err := server.ReadBucket(s.settings(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// left are the files that the bucket consists of, those of unfinished objects included.
func (s *store) left(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Join(s.root, bucketName), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, s.root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
