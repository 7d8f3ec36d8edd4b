// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/trust"
)

// Verbs of the importer.
const (
	VerbImport  = "import"
	VerbInspect = "inspect"
	VerbUpload  = "upload"
)

const (
	// retries in a row and the delay before the first: a source may be away for
	// about five minutes, a registry at any time.
	retries          = 5
	retryDelay       = 10 * time.Second
	registryPatience = 5 * time.Minute
	sourceTimeout    = 30 * time.Second
)

// Config is the command line of the importer.
type Config struct {
	// Verb is one of the constants; empty means import.
	Verb string

	SourceURL      string
	SourceImage    string
	SourceDVCR     string
	SourceVolume   string
	SourceCAFile   string
	SourceAuthFile string
	Checksums      []string
	RefuseNetworks []string

	Listen          string
	UploadTokenFile string
	UploadExpires   string

	Destination    string
	TargetVolume   string
	TargetSize     int64
	Stage          string
	RegistryCAFile string
	TokenFile      string

	// SourceTimeout is how long a source may say nothing, Retries how often in a
	// row the import goes on after a failure that may pass.
	SourceTimeout time.Duration
	Retries       int

	ReportURL      string
	TerminationLog string
	StateDir       string
	CheckpointFile string
}

// defaultRefused are networks that hold no images but the node's own services:
// loopback and link-local, where clouds serve their metadata.
var defaultRefused = []string{"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"}

// AddFlags registers the flags of the verb.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	if c.Verb == VerbUpload {
		c.addUploadFlags(flags)
	} else {
		c.addSourceFlags(flags)
	}
	if c.Verb != VerbInspect {
		c.addSinkFlags(flags)
	}
	flags.StringArrayVar(&c.Checksums, "checksum", nil, "checksum of the file as it is sent, <md5|sha1|sha256|sha512>:<hex>; may be repeated")
	flags.StringVar(&c.SourceCAFile, "source-ca-file", "", "PEM file of further certificate authorities to trust the source by")
	flags.StringVar(&c.RegistryCAFile, "registry-ca-file", "/etc/importer/ca.crt", "PEM file of the module's certificate authority")
	flags.StringVar(&c.TokenFile, "token-file", "/etc/importer/token", "file of the token for the registry")
	flags.StringVar(&c.ReportURL, "report-url", "", "URL that progress is posted to")
	flags.StringVar(&c.TerminationLog, "termination-log", "/dev/termination-log", "file that the verdict is written to")
	flags.StringVar(&c.StateDir, "state-dir", "", "directory that outlives the container, for the checkpoint")
	flags.StringVar(&c.CheckpointFile, "checkpoint-file", "", "file of a checkpoint that an earlier importer has left; the newer one counts")
}

func (c *Config) addSourceFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.SourceURL, "source-url", "", "http or https URL of the image")
	flags.StringVar(&c.SourceImage, "source-image", "", "container image that holds the image, docker://REGISTRY/REPOSITORY:TAG")
	flags.StringVar(&c.SourceAuthFile, "source-auth-file", "", "file of the credentials for the container image, as in a Secret of type kubernetes.io/dockerconfigjson")
	flags.StringVar(&c.SourceDVCR, "source-dvcr", "", "reference of the image in the module's registry")
	flags.StringVar(&c.SourceVolume, "source-volume", "", "block device, or directory with the file disk.img")
	flags.DurationVar(&c.SourceTimeout, "source-timeout", sourceTimeout, "how long the source may say nothing")
	flags.StringSliceVar(&c.RefuseNetworks, "refuse-network", defaultRefused, "networks that images are not imported from")
}

func (c *Config) addUploadFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.Listen, "listen", ":8080", "address to receive the image at")
	flags.StringVar(&c.UploadTokenFile, "upload-token-file", "/etc/importer/upload-token", "file of the token in the upload's URL")
	flags.StringVar(&c.UploadExpires, "upload-expires", "", "time after which nothing is received, as in RFC 3339")
}

func (c *Config) addSinkFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.Destination, "destination", "", "reference of the image in the registry; the tag is the owner's uid")
	flags.StringVar(&c.TargetVolume, "target-volume", "", "block device, or directory for the file disk.img, instead of a destination in the registry")
	flags.Int64Var(&c.TargetSize, "target-size", 0, "size of the guest's disk on the volume in bytes")
	flags.IntVar(&c.Retries, "retries", retries, "how often in a row the import goes on after a failure that may pass")
	flags.StringVar(&c.Stage, "stage", "", "reference in the registry for an image that has to be read at random and cannot be, on its way to a volume")
}

// fields leads to the source in the owner's spec.
func (c *Config) fields() Fields {
	switch {
	case c.Verb == VerbUpload:
		return UploadFields
	case c.SourceImage != "":
		return ContainerImageFields
	case c.SourceDVCR != "", c.SourceVolume != "":
		return ObjectFields
	}
	return HTTPFields
}

// order names the import; what does not change the result is left out.
func (c *Config) order() string {
	checksums := append([]string(nil), c.Checksums...)
	sort.Strings(checksums)
	return progress.OrderOf(c.Verb, c.SourceURL, c.SourceImage, c.SourceDVCR, c.SourceVolume, strings.Join(checksums, ","),
		c.Destination, c.TargetVolume, strconv.FormatInt(c.TargetSize, 10), c.Stage)
}

// job is a command line that was understood.
type job struct {
	config    *Config
	source    source.Source
	checksums []image.Checksum
	transport *http.Transport
	reporter  *progress.Reporter
	status    *progress.Status
	logger    *slog.Logger
}

// job reads the files that the command line names.
func (c *Config) job(logger *slog.Logger) (*job, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	checksums, err := c.checksums()
	if err != nil {
		return nil, err
	}
	j := &job{config: c, checksums: checksums, status: &progress.Status{}, logger: logger}
	if c.Verb != VerbUpload && c.SourceDVCR == "" {
		if j.source, err = c.outsideSource(len(checksums) > 0); err != nil {
			return nil, err
		}
	}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	authorities, err := trust.Open(c.RegistryCAFile)
	if err != nil {
		return nil, fmt.Errorf("--registry-ca-file: %w", err)
	}
	if j.transport, err = dvcr.NewFileTransport(authorities); err != nil {
		return nil, fmt.Errorf("--registry-ca-file: %w", err)
	}
	if c.SourceDVCR != "" {
		if j.source, err = source.NewDVCR(source.DVCROptions{Reference: c.SourceDVCR, Token: c.token, Transport: j.transport}); err != nil {
			return nil, fmt.Errorf("--source-dvcr: %w", err)
		}
	}
	j.reporter = &progress.Reporter{URL: c.ReportURL, Token: c.token, Client: &http.Client{Transport: j.transport}, Clock: clock.RealClock{}, Logger: logger}
	return j, nil
}

// check refuses what contradicts itself.
func (c *Config) check() error {
	set := func(values ...string) (n int) {
		for _, value := range values {
			if value != "" {
				n++
			}
		}
		return n
	}
	switch {
	case set(c.SourceURL, c.SourceImage, c.SourceDVCR, c.SourceVolume) > 1:
		return errors.New("give only one of --source-url, --source-image, --source-dvcr and --source-volume")
	case c.Verb != VerbInspect && set(c.Destination, c.TargetVolume) != 1:
		return errors.New("give either --destination or --target-volume")
	case c.TargetVolume == "" && (c.TargetSize != 0 || c.Stage != ""):
		return errors.New("--target-size and --stage go with --target-volume")
	case c.TargetSize < 0:
		return errors.New("--target-size must not be negative")
	}
	return nil
}

// token reads the file anew: kubelet exchanges it when the token is renewed.
func (c *Config) token() (string, error) {
	signed, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read --token-file: %w", err)
	}
	return string(bytes.TrimSpace(signed)), nil
}

func (c *Config) checksums() ([]image.Checksum, error) {
	checksums := make([]image.Checksum, 0, len(c.Checksums))
	for _, text := range c.Checksums {
		checksum, err := image.ParseChecksum(text)
		if err != nil {
			return nil, &report.Failure{Reason: report.ChecksumMismatch, Message: err.Error(), Field: c.fields().of("checksum"), Permanent: true}
		}
		checksums = append(checksums, checksum)
	}
	return checksums, nil
}

// outsideSource is a source that the module's registry has nothing to do with.
func (c *Config) outsideSource(verified bool) (source.Source, error) {
	if c.SourceVolume != "" {
		return source.NewLocal(c.SourceVolume), nil
	}
	refused, err := c.refusedNetworks()
	if err != nil {
		return nil, err
	}
	ca, err := readOptional("--source-ca-file", c.SourceCAFile)
	if err != nil {
		return nil, err
	}
	if c.SourceImage == "" {
		return source.NewHTTP(source.HTTPOptions{URL: c.SourceURL, CA: ca, Verified: verified, RefusedNetworks: refused,
			HeaderTimeout: c.SourceTimeout, StallTimeout: c.SourceTimeout})
	}
	credentials, err := readOptional("--source-auth-file", c.SourceAuthFile)
	if err != nil {
		return nil, err
	}
	return source.NewRegistry(source.RegistryOptions{Image: c.SourceImage, DockerConfig: credentials, CA: ca, RefusedNetworks: refused,
		Timing: source.HTTPOptions{HeaderTimeout: c.SourceTimeout, StallTimeout: c.SourceTimeout}})
}

func (c *Config) refusedNetworks() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.RefuseNetworks {
		if text == "" {
			continue // --refuse-network= lifts the default.
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--refuse-network: %w", err)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func readOptional(flag, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", flag, err)
	}
	return content, nil
}

// checkpoints of this order, and the newest one.
func (j *job) checkpoints() (*progress.Checkpoints, *report.Checkpoint) {
	return progress.Load(j.config.order(), j.config.StateDir, j.config.CheckpointFile, j.status, j.logger)
}

// options of an import into the registry.
func (j *job) options(destination string) Options {
	return Options{
		Source: j.source, SinglePass: j.config.Verb == VerbUpload, Fields: j.config.fields(), Checksums: j.checksums,
		Destination: destination, Token: j.config.token, Transport: j.transport, RegistryPatience: registryPatience,
		Status: j.status, Clock: clock.RealClock{}, Logger: j.logger,
	}
}
