package main

import (
	"bytes"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/deploy"
	"github.com/rousehq/rouse/internal/kube"
)

// object is what is looked at of an object of the installation.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Rules []struct {
		APIGroups     []string `json:"apiGroups"`
		Resources     []string `json:"resources"`
		ResourceNames []string `json:"resourceNames"`
		Verbs         []string `json:"verbs"`
	} `json:"rules"`
	RoleRef struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"roleRef"`
	Subjects []struct {
		Name string `json:"name"`
	} `json:"subjects"`
}

// installation returns the objects that `rouse install` would make in a namespace, the webhook's with it. tokenSecret is a
// Secret that somebody brought, which control may read and not make; empty is control's own.
func installation(namespace, tokenSecret string) ([]object, error) {
	parts, err := deploy.Render(deploy.Options{Namespace: namespace, CreateNamespace: true, Webhook: true, Everything: true, TokenSecret: tokenSecret})
	if err != nil {
		return nil, err
	}
	return parsed(parts)
}

// parsed reads the objects of components.
func parsed(parts []deploy.Component) (all []object, err error) {
	for _, p := range parts {
		for doc := range bytes.SplitSeq(append([]byte("\n"), p.YAML...), []byte("\n---\n")) {
			var o object
			if err := yaml.Unmarshal(doc, &o); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			if o.Kind != "" {
				all = append(all, o)
			}
		}
	}
	return all, nil
}

// grant is what a service account of the installation must be able to do.
type grant struct {
	account, role string // role such as "ClusterRole rouse-control"
	right         kube.Right
}

// grants lists what the bindings among the objects give to whom, one verb on one resource each.
func grants(all []object) (out []grant) {
	roles := make(map[string]object)
	for _, o := range all {
		if o.Kind == "Role" || o.Kind == "ClusterRole" {
			roles[o.Kind+" "+o.Metadata.Name] = o
		}
	}
	for _, b := range all {
		role := b.RoleRef.Kind + " " + b.RoleRef.Name
		for _, s := range b.Subjects {
			for _, r := range rightsOf(roles[role], b.Metadata.Namespace) {
				out = append(out, grant{s.Name, role, r})
			}
		}
	}
	return out
}

// rightsOf spells a role's rules out, for a binding in a namespace, for one of the cluster with none.
func rightsOf(role object, namespace string) (out []kube.Right) {
	for _, rule := range role.Rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				resource, sub, _ := strings.Cut(resource, "/")
				for _, name := range names {
					for _, verb := range rule.Verbs {
						out = append(out, kube.Right{Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name, Namespace: namespace})
					}
				}
			}
		}
	}
	return out
}
