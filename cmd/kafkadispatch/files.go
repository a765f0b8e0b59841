package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch/source"
)

// readFiles reads every KafkaSource of the files. Manifests of other kinds are left to others; one that is broken is
// an error of the whole, because nobody can tell what it was to be.
func readFiles(paths []string) ([]*source.KafkaSource, error) {
	if len(paths) == 0 {
		return nil, errors.New("name a manifest with -f")
	}
	var out []*source.KafkaSource
	for _, path := range paths {
		names, err := expand(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			ks, err := readFile(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out = append(out, ks...)
		}
	}
	return out, nil
}

// expand lists the YAML files of a directory, sorted. A mounted ConfigMap holds each file twice: by its name, and in a
// folder such as ..2026_11_29_17_00_00.1 that the name leads to.
func expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	var out []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && p != path && strings.HasPrefix(d.Name(), "..") {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)) {
			out = append(out, p)
		}
		return err
	})
	return out, err
}

func readFile(name string) (out []*source.KafkaSource, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for _, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return nil, err
		}
		if !source.Is(head.APIVersion, head.Kind) {
			continue
		}
		k, err := source.Parse(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// files resolves names by convention: services by their DNS name, secrets as files.
type files struct {
	secrets, domain string
	broker          *kafkabroker.Broker
}

// Address returns the service's name in the cluster; a Knative Service has one too.
func (f *files) Address(ref source.Ref) (string, error) {
	if ref.Kind != "Service" {
		return "", fmt.Errorf("kind %s: only Services have an address here; give a uri", ref.Kind)
	}
	return "http://" + ref.Name + "." + ref.Namespace + "." + f.domain, nil
}

// Secret reads NAMESPACE/NAME/KEY, else NAME/KEY, below the secrets' directory.
func (f *files) Secret(namespace, name, key string) (string, error) {
	for _, path := range []string{filepath.Join(f.secrets, namespace, name, key), filepath.Join(f.secrets, name, key)} {
		if !filepath.IsLocal(filepath.Join(name, key)) {
			break
		}
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSuffix(string(text), "\n"), nil
		}
	}
	return "", fmt.Errorf("no file %s/%s below %s (see -secrets)", name, key, f.secrets)
}

// Embedded returns the broker's addresses.
func (f *files) Embedded() []string {
	if f.broker == nil {
		return nil
	}
	return f.broker.Bootstrap()
}

// Token reads a projected service account token: the file token-AUDIENCE, or token, below the secrets' directory.
func (f *files) Token(audience string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		for _, name := range []string{"token-" + filepath.Base(audience), "token"} {
			if text, err := os.ReadFile(filepath.Join(f.secrets, name)); err == nil {
				return strings.TrimSpace(string(text)), nil
			}
		}
		return "", fmt.Errorf("no token for audience %q below %s", audience, f.secrets)
	}
}
