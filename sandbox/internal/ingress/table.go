// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ingress is the sandbox's Ingress controller: it ends TLS and passes
// requests on to Services. Bodies of any size go through as they come.
package ingress

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Objects are what a table is made from.
type Objects struct {
	Ingresses []*networkingv1.Ingress
	Services  []*corev1.Service
	Secrets   []*corev1.Secret
}

// Table says where requests go.
type Table struct {
	routes       []route
	certificates map[string]*tls.Certificate
	// Problems are what is wrong with the objects, sorted.
	Problems []string
}

type route struct {
	// host may begin with "*." and is empty for all hosts.
	host   string
	path   string
	exact  bool
	target *url.URL
}

// NewTable makes a table from the Ingresses of a class. What is wrong with one of
// them does not keep the others from working.
func NewTable(class string, o Objects) *Table {
	b := builder{table: &Table{certificates: map[string]*tls.Certificate{}}, services: map[string]*corev1.Service{}, secrets: map[string]*corev1.Secret{}}
	for _, service := range o.Services {
		b.services[service.Namespace+"/"+service.Name] = service
	}
	for _, secret := range o.Secrets {
		b.secrets[secret.Namespace+"/"+secret.Name] = secret
	}
	for _, ingress := range o.Ingresses {
		if name := ingress.Spec.IngressClassName; name != nil && *name == class {
			b.add(ingress)
		}
	}
	slices.SortStableFunc(b.table.routes, compareRoutes)
	slices.Sort(b.table.Problems)
	return b.table
}

// compareRoutes puts the more particular route first.
func compareRoutes(a, b route) int {
	return cmp.Or(
		cmp.Compare(rank(a.host), rank(b.host)),
		cmp.Compare(len(b.host), len(a.host)),
		cmp.Compare(len(b.path), len(a.path)),
		cmp.Compare(boolean(b.exact), boolean(a.exact)),
		strings.Compare(a.host+a.path, b.host+b.path),
	)
}

// rank orders hosts: one name, then all names of a domain, then all.
func rank(host string) int {
	switch {
	case host == "":
		return 2
	case strings.HasPrefix(host, "*."):
		return 1
	default:
		return 0
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

type builder struct {
	table    *Table
	services map[string]*corev1.Service
	secrets  map[string]*corev1.Secret
}

func (b builder) add(ingress *networkingv1.Ingress) {
	problem := func(err error) {
		b.table.Problems = append(b.table.Problems, fmt.Sprintf("%s/%s: %v", ingress.Namespace, ingress.Name, err))
	}
	for _, entry := range ingress.Spec.TLS {
		certificate, err := b.certificate(ingress.Namespace, entry.SecretName)
		if err != nil {
			problem(err)
			continue
		}
		for _, host := range entry.Hosts {
			b.table.certificates[strings.ToLower(host)] = certificate
		}
	}
	for _, rule := range ingress.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, path := range rule.HTTP.Paths {
			target, err := b.target(ingress.Namespace, path.Backend.Service)
			if err != nil {
				problem(err)
				continue
			}
			exact := path.PathType != nil && *path.PathType == networkingv1.PathTypeExact
			b.table.routes = append(b.table.routes, route{host: strings.ToLower(rule.Host), path: path.Path, exact: exact, target: target})
		}
	}
}

func (b builder) certificate(namespace, name string) (*tls.Certificate, error) {
	secret, found := b.secrets[namespace+"/"+name]
	if !found {
		return nil, fmt.Errorf("there is no Secret %s of type %s", name, corev1.SecretTypeTLS)
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("the Secret %s: %w", name, err)
	}
	return &pair, nil
}

func (b builder) target(namespace string, backend *networkingv1.IngressServiceBackend) (*url.URL, error) {
	if backend == nil {
		return nil, fmt.Errorf("only Services are known as backends")
	}
	service, found := b.services[namespace+"/"+backend.Name]
	if !found {
		return nil, fmt.Errorf("there is no Service %s", backend.Name)
	}
	if net.ParseIP(service.Spec.ClusterIP) == nil {
		return nil, fmt.Errorf("the Service %s has no address", backend.Name)
	}
	for _, port := range service.Spec.Ports {
		if port.Port == backend.Port.Number || port.Name != "" && port.Name == backend.Port.Name {
			return &url.URL{Scheme: "http", Host: net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port)))}, nil
		}
	}
	wanted := backend.Port.Name
	if wanted == "" {
		wanted = strconv.Itoa(int(backend.Port.Number))
	}
	return nil, fmt.Errorf("the Service %s has no port %s", backend.Name, wanted)
}

// Target says where a request goes; nil for nowhere.
func (t *Table) Target(host, path string) *url.URL {
	host = strings.ToLower(host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	for _, r := range t.routes {
		if matchesHost(r.host, host) && r.matchesPath(path) {
			return r.target
		}
	}
	return nil
}

func matchesHost(pattern, host string) bool {
	domain, wildcard := strings.CutPrefix(pattern, "*")
	if !wildcard {
		return pattern == "" || pattern == host
	}
	name, found := strings.CutSuffix(host, domain)
	return found && name != "" && !strings.Contains(name, ".")
}

// matchesPath compares whole elements of a path: /a leads to /a/b and not to /ab.
func (r route) matchesPath(path string) bool {
	if r.exact {
		return r.path == path
	}
	prefix := strings.TrimSuffix(r.path, "/")
	rest, found := strings.CutPrefix(path, prefix)
	return found && (rest == "" || rest[0] == '/')
}

// Certificate returns the one for a host, nil for none.
func (t *Table) Certificate(host string) *tls.Certificate {
	host = strings.ToLower(host)
	if certificate, found := t.certificates[host]; found {
		return certificate
	}
	_, domain, _ := strings.Cut(host, ".")
	return t.certificates["*."+domain]
}
