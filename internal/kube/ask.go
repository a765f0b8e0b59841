package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Version is that of an API server, such as v1.36.3.
type Version struct {
	Major string `json:"major"`
	Minor string `json:"minor"` // with a "+" behind it at some vendors'
	Git   string `json:"gitVersion"`
}

// Version asks the API server for its version: that it answers at all.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := c.core.Discovery().RESTClient().Get().AbsPath("/version").SetHeader("Accept", "application/json").DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	if err != nil {
		return v, fmt.Errorf("the API server does not answer: %w", err)
	}
	return v, nil
}

// Right is one verb on one kind of resource, in a namespace or, with none, in all.
type Right struct {
	Verb, Group, Resource, Subresource, Name, Namespace string
}

// String says the right as RBAC does: "patch deployments.apps/scale".
func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Group != "" {
		s += "." + r.Group
	}
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Name != "" {
		s += " " + strconv.Quote(r.Name)
	}
	if r.Namespace != "" {
		s += " in " + r.Namespace
	}
	return s
}

func (r Right) attributes() *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{
		Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Name: r.Name, Namespace: r.Namespace,
	}
}

// Granted says whether a service account has a right. The caller needs to create subjectaccessreviews.
func (c *Client) Granted(ctx context.Context, namespace, account string, r Right) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := c.core.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			ResourceAttributes: r.attributes(), User: "system:serviceaccount:" + namespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask what service account %s may do: %w", account, err)
	}
	return review.Status.Allowed, nil
}

// Permitted says whether the caller has a right.
func (c *Client) Permitted(ctx context.Context, r Right) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := c.core.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: r.attributes()},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask what you may do: %w", err)
	}
	return review.Status.Allowed, nil
}

// Resource returns the plural name of a kind, such as deployments, empty when the API server does not serve it.
func (c *Client) Resource(_ context.Context, apiVersion, kind string) (string, error) {
	list, err := c.core.Discovery().ServerResourcesForGroupVersion(apiVersion)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for the API %s: %w", apiVersion, err)
	}
	for _, r := range list.APIResources {
		if r.Kind == kind {
			return r.Name, nil
		}
	}
	return "", nil
}

// pageLimit bounds how long one page may take: what stands behind it answers at once, or not at all.
const pageLimit = callTimeout

// Page reads a page of a pod's HTTP port through the API server. The caller needs to get pods/proxy.
func (c *Client) Page(ctx context.Context, namespace, pod string, port int, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageLimit)
	defer cancel()
	req := c.core.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Name(fmt.Sprintf("%s:%d", pod, port)).
		SubResource("proxy").Suffix(path).SetHeader("Accept", "application/json")
	for name, values := range query {
		for _, v := range values {
			req = req.Param(name, v)
		}
	}
	body, err := req.DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s of pod %s/%s through the API server: %w%s", path, namespace, pod, err, message(body))
	}
	return body, nil
}

// message is what an answer that is an error says itself, for the end of another text: client-go does not read it.
func message(body []byte) string {
	var s metav1.Status
	if json.Unmarshal(body, &s) != nil || s.Message == "" {
		return ""
	}
	return ": " + s.Message
}

// Refused says whether the API server refused something because the caller lacks the right.
func Refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// Absent says whether the API server, or a page behind it, knows nothing of what was asked for.
func Absent(err error) bool { return apierrors.IsNotFound(err) }
