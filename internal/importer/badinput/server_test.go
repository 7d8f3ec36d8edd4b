// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	trust    = "; give the authority that signed the server's certificate in caBundle, or correct the URL"
	changing = "the download was interrupted and cannot be continued: the image changes all the time, the last time: "
)

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// file is a server that does all it should.
func file(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(content)
	}
}

// ranged is a server that knows ranges, too.
func ranged(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "disk", time.Time{}, bytes.NewReader(content))
	}
}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// wire answers with bytes that no HTTP library would send, and hangs up: with
// whole to a request for all of the file, with rest to one for a part.
func wire(whole string, rest ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		answer := whole
		if r.Header.Get("Range") != "" && len(rest) > 0 {
			answer = rest[0]
		}
		_, _ = conn.Write([]byte(answer))
	}
}

// head is that of a good answer about an image of the given length.
func head(length int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: %d\r\n\r\n", length)
}

func part(first, last, length int) string {
	return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n", first, last, length, last-first+1)
}

// badServers misbehave in HTTP.
func badServers() []bad {
	raw := string(rawDisk())
	half := len(raw) / 2
	dropped := head(len(raw)) + raw[:half]
	return []bad{
		{title: "400", server: status(400),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 400 Bad Request"},
		{title: "401", server: status(401, "WWW-Authenticate", `Basic realm="images"`),
			reason: report.SourceUnauthorized, message: "http://HOST/disk.img answers 401 Unauthorized: the source wants other credentials than the URL has"},
		{title: "403", server: status(403),
			reason: report.SourceUnauthorized, message: "http://HOST/disk.img answers 403 Forbidden: the source wants other credentials than the URL has"},
		{title: "404", server: status(404),
			reason: report.SourceNotFound, message: "http://HOST/disk.img answers 404 Not Found: check the URL"},
		{title: "405", server: status(405),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 405 Method Not Allowed"},
		{title: "410", server: status(410),
			reason: report.SourceNotFound, message: "http://HOST/disk.img answers 410 Gone: check the URL"},
		{title: "416 for the whole file", server: status(416),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 416 Requested Range Not Satisfiable"},
		{title: "429", server: status(429, "Retry-After", "86400"),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 429 Too Many Requests", passes: true},
		{title: "451", server: status(451),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 451 Unavailable For Legal Reasons"},
		{title: "500", server: status(500),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 500 Internal Server Error", passes: true},
		{title: "503", server: status(503),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 503 Service Unavailable", passes: true},
		{title: "204", server: status(204),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 204 No Content"},
		{title: "206 without being asked", server: status(206, "Content-Range", "bytes 0-0/1"),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 206 Partial Content"},
		{title: "304 without being asked", server: status(304),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 304 Not Modified"},
		{title: "no HTTP", server: wire("SSH-2.0-OpenSSH_9.2p1\r\n"),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: net/http: HTTP/1.x transport connection broken: malformed HTTP response \"SSH-2.0-OpenSSH_9.2p1\"", passes: true},
		{title: "nothing at all", server: wire(""),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: EOF", passes: true},
		{title: "an endless header", server: wire("HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1<<20)),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 65536 bytes; aborted", passes: true},
		{title: "two lengths", server: wire("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n" + raw),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: net/http: HTTP/1.x transport connection broken: http: message cannot contain multiple Content-Length headers; got [\"10\" \"20\"]", passes: true},
		{title: "a length that overflows", server: wire("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n" + raw),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: net/http: HTTP/1.x transport connection broken: bad Content-Length \"99999999999999999999\"", passes: true},
		{title: "a negative length", server: wire("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + raw),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: net/http: HTTP/1.x transport connection broken: bad Content-Length \"-1\"", passes: true},
		{title: "neither a length nor an end", server: wire("HTTP/1.1 200 OK\r\n\r\n" + raw),
			reason: report.SourceUnreachable, message: "the server does not say how long the image is, so a broken download cannot be told from a complete one: give a checksum", field: "spec.dataSource.http.checksum"},
		{title: "truncated chunks", server: wire("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + raw[:half]),
			reason: report.SourceUnreachable, message: changing + "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image", passes: true},
		{title: "chunks that overflow", server: wire("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + raw),
			reason: report.SourceUnreachable, message: "the download from HOST broke after 0 of unknown bytes: http chunk length too large", passes: true},
		{title: "a length that is too long", server: wire(head(len(raw)+1)+raw, part(len(raw), len(raw), len(raw)+1)),
			reason: report.SourceUnreachable, message: "the download from HOST broke after 1048576 of 1048577 bytes: unexpected EOF", passes: true},
		{title: "no ranges after a drop", server: wire(dropped),
			reason: report.SourceUnreachable, message: changing + "the server sends the whole image again, so either it has changed or the server does not support ranges", passes: true},
		{title: "no ETag after a drop", server: wire(strings.Replace(dropped, "ETag: \"1\"\r\n", "", 1)),
			reason: report.SourceUnreachable, message: changing + "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image", passes: true},
		{title: "a weak ETag after a drop", server: wire(strings.Replace(dropped, `"1"`, `W/"1"`, 1)),
			reason: report.SourceUnreachable, message: changing + "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image", passes: true},
		{title: "416 after a drop", server: wire(dropped, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n"),
			reason: report.SourceUnreachable, message: changing + "the image on the server is no longer that long", passes: true},
		{title: "another range than asked for", server: wire(dropped, part(0, half-1, len(raw))+raw[:half]),
			reason: report.SourceUnreachable, message: changing + "the server sends another range than the one asked for", passes: true},
		{title: "a range that makes no sense", server: wire(dropped, strings.Replace(part(half, len(raw)-1, len(raw)), "bytes ", "lines ", 1)),
			reason: report.SourceUnreachable, message: changing + "the server's Content-Range makes no sense", passes: true},
		{title: "a range that overflows", server: wire(dropped, strings.Replace(part(half, len(raw)-1, len(raw)), fmt.Sprint("/", len(raw)), "/99999999999999999999", 1)),
			reason: report.SourceUnreachable, message: changing + "the server's Content-Range makes no sense", passes: true},
		{title: "an image that grows", server: wire(dropped, part(half, len(raw)-1, len(raw)+1)+raw[half:]),
			reason: report.SourceUnreachable, message: changing + "the image had 1048576 bytes and now has 1048577", passes: true},
		{title: "multipart ranges", server: wire(dropped, "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\nContent-Length: 0\r\n\r\n"),
			reason: report.SourceUnreachable, message: changing + "the server's Content-Range makes no sense", passes: true},
		{title: "404 after a drop", server: wire(dropped, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
			reason: report.SourceNotFound, message: "http://HOST/disk.img answers 404 Not Found: check the URL"},
		{title: "401 after a drop", server: wire(dropped, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
			reason: report.SourceUnauthorized, message: "http://HOST/disk.img answers 401 Unauthorized: the source wants other credentials than the URL has"},
		{title: "a body in brotli", server: encoded("br", raw),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img sends the image encoded as \"br\" although it was asked not to: switch the encoding off for this file"},
		{title: "a body in gzip beside a checksum", server: encoded("gzip", string(gzipped([]byte(raw)))), args: []string{"--checksum=sha256:" + sha256Of([]byte(raw))},
			reason: report.SourceUnreachable, message: "http://HOST/disk.img sends the image encoded as \"gzip\" although it was asked not to: switch the encoding off for this file"},
		{title: "a head that comes byte by byte", server: drip("HTTP/1.1 200 OK\r\nX-Slow: "+strings.Repeat("x", 1000), 100*time.Millisecond),
			reason: report.SourceUnreachable, message: "HOST does not answer in time: net/http: timeout awaiting response headers", passes: true},
		{title: "a body that comes byte by byte", server: drip(dropped, 100*time.Millisecond),
			reason: report.SourceUnreachable, message: changing + "the server sends the whole image again, so either it has changed or the server does not support ranges", passes: true},
		{title: "a body that stops", server: stop,
			reason: report.SourceUnreachable, message: changing + "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image", passes: true},
		{title: "a trailing error page", server: wire(dropped + "<html>502 Bad Gateway</html>"),
			reason: report.SourceUnreachable, message: changing + "the server sends the whole image again, so either it has changed or the server does not support ranges", passes: true},
	}
}

// drip sends the text byte by byte, all but the head of an answer if it is whole.
func drip(whole string, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		text := whole
		if end := strings.Index(text, "\r\n\r\n"); end >= 0 {
			_, _ = conn.Write([]byte(text[:end+4]))
			text = text[end+4:]
		}
		for _, b := range []byte(text) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
}

// stop sends the beginning of an image and then nothing.
func stop(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "10000000")
	_, _ = w.Write(rawDisk())
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func encoded(encoding, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		_, _ = w.Write([]byte(body))
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

// badRedirects lead where the importer must not go. 127.0.0.2 stands for the
// cluster's API server here.
func badRedirects() []bad {
	guarded := []string{"--refuse-network=127.0.0.2/31,10.96.0.0/12,fd00::/8,169.254.0.0/16"}
	return []bad{
		{title: "redirects in a circle", server: redirect("/disk.img"),
			reason: report.SourceUnreachable, message: "the source redirects more than 10 times"},
		{title: "ever new redirects", server: func(w http.ResponseWriter, r *http.Request) { redirect("/disk.img"+r.URL.Path)(w, r) },
			reason: report.SourceUnreachable, message: "the source redirects more than 10 times"},
		{title: "a redirect to nowhere", server: status(302),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 302 Found"},
		{title: "a redirect to a file", server: redirect("file:///etc/shadow"),
			reason: report.SourceUnreachable, message: "the source redirects to the scheme \"file\": only http and https are followed"},
		{title: "a redirect to another protocol", server: redirect("gopher://127.0.0.1:70/x"),
			reason: report.SourceUnreachable, message: "the source redirects to the scheme \"gopher\": only http and https are followed"},
		{title: "a redirect that is no URL", server: redirect("http://[::1"),
			reason: report.SourceUnreachable, message: "HOST cannot be reached: failed to parse Location header \"http://[::1\": parse \"http://[::1\": missing ']' in host", passes: true},
		{title: "a redirect to the API server", server: redirect("https://127.0.0.2:6443/api/v1/secrets"), args: guarded,
			reason: report.SourceUnreachable, message: "the source is at 127.0.0.2, and images are not imported from the network 127.0.0.2/31"},
		{title: "a redirect to the cloud's metadata", server: redirect("http://169.254.169.254/latest/meta-data/"), args: guarded,
			reason: report.SourceUnreachable, message: "the source is at 169.254.169.254, and images are not imported from the network 169.254.0.0/16"},
		{title: "a redirect to a Service", server: redirect("http://10.96.0.1/"), args: guarded,
			reason: report.SourceUnreachable, message: "the source is at 10.96.0.1, and images are not imported from the network 10.96.0.0/12"},
		{title: "a redirect to IPv6 in IPv4's clothes", server: redirect("http://[::ffff:10.96.0.1]/"), args: guarded,
			reason: report.SourceUnreachable, message: "the source is at 10.96.0.1, and images are not imported from the network 10.96.0.0/12"},
		{title: "300 without a choice", server: status(300),
			reason: report.SourceUnreachable, message: "http://HOST/disk.img answers 300 Multiple Choices"},
	}
}

// badAddresses cannot be connected to, or not in trust.
func badAddresses(t *testing.T) []bad {
	trusted := httptest.NewTLSServer(file(rawDisk()))
	t.Cleanup(trusted.Close)
	sideways := httptest.NewTLSServer(redirect("http://127.0.0.1:1/disk.img"))
	t.Cleanup(sideways.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	ca := write(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate().Raw}))
	other := write(t, authority(t))
	garbage := write(t, []byte("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n"))
	secure := strings.TrimPrefix(trusted.URL, "https://")
	bundle := "spec.dataSource.http.caBundle"
	return []bad{
		{title: "an unknown authority", args: []string{"--source-url=https://" + secure}, field: bundle,
			reason: report.SourceTLS, message: "no trusted connection to HOST: tls: failed to verify certificate: x509: certificate signed by unknown authority" + trust},
		{title: "another authority", args: []string{"--source-url=https://" + secure, "--source-ca-file=" + other}, field: bundle,
			reason: report.SourceTLS, message: "no trusted connection to HOST: tls: failed to verify certificate: x509: certificate signed by unknown authority" + trust},
		{title: "no authority in the bundle", args: []string{"--source-url=https://" + secure, "--source-ca-file=" + garbage}, field: bundle,
			reason: report.SourceTLS, message: "the CA bundle holds no PEM certificate"},
		{title: "a certificate of another name", args: []string{"--source-url=https://localhost:" + secure[strings.LastIndex(secure, ":")+1:], "--source-ca-file=" + ca}, field: bundle,
			reason: report.SourceTLS, message: "no trusted connection to HOST: tls: failed to verify certificate: x509: certificate is valid for example.com, *.example.com, not localhost" + trust},
		{title: "https where http is spoken", content: rawDisk(), args: []string{"--source-url=https://HOST/disk.img"}, field: bundle,
			reason: report.SourceTLS, message: "no trusted connection to HOST: http: server gave HTTP response to HTTPS client" + trust},
		{title: "http where https is spoken", args: []string{"--source-url=http://" + secure},
			reason: report.SourceUnreachable, message: "http://HOST answers 400 Bad Request"},
		{title: "a redirect from https to http", args: []string{"--source-url=" + sideways.URL, "--source-ca-file=" + write(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sideways.Certificate().Raw}))},
			reason: report.SourceUnreachable, message: "the source redirects from https to http (http://HOST/disk.img), where the image could be exchanged: give a checksum, or the final URL"},
		{title: "a port that is closed", args: []string{"--source-url=http://" + closed.Addr().String()},
			reason: report.SourceUnreachable, message: "HOST cannot be reached: dial tcp HOST: connect: connection refused", passes: true},
		{title: "a refused network", args: []string{"--refuse-network=127.0.0.0/8"},
			reason: report.SourceUnreachable, message: "the source is at 127.0.0.1, and images are not imported from the network 127.0.0.0/8"},
		{title: "a file's URL", args: []string{"--source-url=file:///etc/shadow"},
			reason: report.SourceUnreachable, message: "the URL's scheme is \"file\": use http or https"},
		{title: "an ftp URL", args: []string{"--source-url=ftp://HOST/disk.img"},
			reason: report.SourceUnreachable, message: "the URL's scheme is \"ftp\": use http or https"},
		{title: "no scheme", args: []string{"--source-url=HOST"},
			reason: report.SourceUnreachable, message: "the URL cannot be parsed: check it for spaces and wrong escapes"},
		{title: "no host", args: []string{"--source-url=http:///disk.img"},
			reason: report.SourceUnreachable, message: "the URL names no host"},
		{title: "a broken escape", args: []string{"--source-url=http://HOST/%zz"},
			reason: report.SourceUnreachable, message: "the URL cannot be parsed: check it for spaces and wrong escapes"},
		{title: "an empty URL", args: []string{"--source-url="},
			reason: report.SourceUnreachable, message: "the URL's scheme is \"\": use http or https"},
	}
}

// authority makes the certificate of one that has signed nothing.
func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
