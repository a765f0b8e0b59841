package queueproxy

import "github.com/rousehq/rouse/internal/forward"

// Headers by which an ingress says how a request was routed, and the values of the label that Knative makes of them.
const (
	headerTag          = "Knative-Serving-Tag"
	headerDefaultRoute = "Knative-Serving-Default-Route"

	tagDisabled  = "DISABLED"  // the ingress does not route by tag header
	tagDefault   = "DEFAULT"   // no tag was asked for
	tagUndefined = "UNDEFINED" // a tag that does not exist was
	tagOther     = "OTHER"     // ours: no tag that could be, or beyond the bound of distinct tags
)

// Tags come with requests, from whoever sends one: maxTags bounds the distinct ones that are counted apart, and maxTag
// the bytes of one, which is part of a host name.
const (
	maxTags = 64
	maxTag  = 63
)

// routeTag returns the label of the traffic target that the request was routed by, nil for DISABLED. The bytes are
// valid as long as the exchange.
func routeTag(x forward.Exchange) []byte {
	tag, byDefault := x.Header(headerTag), x.Header(headerDefaultRoute)
	switch {
	case len(tag) == 0 && len(byDefault) == 0:
		return nil
	case len(tag) == 0:
		return []byte(tagDefault)
	case string(byDefault) == "true":
		return []byte(tagUndefined)
	}
	return tag
}
