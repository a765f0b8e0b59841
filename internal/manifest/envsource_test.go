package manifest

import (
	"strings"
	"testing"
)

// TestSourcesOfACluster: what pods take from their cluster need not be among the files; only its shape is checked.
func TestSourcesOfACluster(t *testing.T) {
	const head = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: shop}\nspec: {template: {spec: {containers: [{image: a, "
	for _, tc := range []struct{ name, env, says string }{
		{"secretKeyRef", "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]", ""},
		{"configMapKeyRef", "env: [{name: A, valueFrom: {configMapKeyRef: {name: s, key: k, optional: true}}}]", ""},
		{"fieldRef", "env: [{name: A, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}]", ""},
		{"resourceFieldRef", "env: [{name: A, valueFrom: {resourceFieldRef: {containerName: a, resource: limits.cpu, divisor: 1}}}]", ""},
		{"fileKeyRef", "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k, optional: false}}}]", ""},
		{"envFrom", "envFrom: [{prefix: A_, secretRef: {name: s}}, {configMapRef: {name: c, optional: true}}]", ""},
		{"no key", "env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]", "env[0].valueFrom.secretKeyRef.key: is missing"},
		{"a number", "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: 1}}}]", "env[0].valueFrom.secretKeyRef.key: is 1, must be a text"},
		{"no source", "env: [{name: A, valueFrom: {}}]", "env[0].valueFrom: names 0 sources"},
		{"two sources", "envFrom: [{secretRef: {name: s}, configMapRef: {name: c}}]", "envFrom[0]: names 2 sources"},
		{"optional is a word", "envFrom: [{secretRef: {name: s, optional: often}}]", "envFrom[0].secretRef.optional: is the text"},
		{"value too", "env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: s, key: k}}}]", "env[0].valueFrom: value and valueFrom exclude each other"},
	} {
		_, diags := load(t, Options{Cluster: true, Strict: true}, head+tc.env+"}]}}}\n")
		switch err := diags.Err(); {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v, want it taken unread", tc.name, err)
		case tc.says != "" && (len(diags) != 1 || !strings.Contains(diags[0].String(), tc.says)):
			t.Errorf("%s: %v, want %q alone", tc.name, diags, tc.says)
		}
	}
}
