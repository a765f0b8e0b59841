package route

import "github.com/rousehq/rouse/internal/identity"

// Route sends the requests of some hosts, below a path and with some headers, to revisions by weight.
type Route struct {
	// Name is for logs, metrics and faults, such as "default/hello".
	Name string
	// Hosts are exact names, "*.example.com" for every name below, or "*" for all. Case does not matter, a port is
	// not part of a host, IPv6 addresses are written without brackets.
	Hosts []string
	// Path is a prefix of whole segments; empty or "/" is every path.
	Path string
	// Headers must all match.
	Headers []HeaderMatch
	// Backends share the requests; at least one has a weight.
	Backends []Backend
}

// Backend is one revision of a route with its share.
type Backend struct {
	Revision identity.Revision
	Tag      string // the traffic tag that led here, if one did
	// Weight is relative to the sum of all weights of the route; 0 gets nothing.
	Weight int
}

// MatchKind is how a header's value is compared.
type MatchKind uint8

// The kinds of match. Values are compared byte by byte.
const (
	Exact    MatchKind = iota
	Present            // any value, even an empty one
	Prefix             // the value starts with it
	Contains           // the value holds it
)

// HeaderMatch asks for a header.
type HeaderMatch struct {
	Name  string // case does not matter
	Kind  MatchKind
	Value string
}

// Mode says when an answer is given.
type Mode uint8

// The modes of an answer.
const (
	// Always answers without asking the revision.
	Always Mode = iota
	// WhileCold answers when the revision has no ready pod, and does not wake it: for health checks and crawlers.
	WhileCold
	// Placeholder answers when the revision has no ready pod, and wakes it.
	Placeholder
)

// String returns the mode's name as configuration writes it.
func (m Mode) String() string { return [...]string{"always", "while-cold", "placeholder"}[m] }

// Answer is a fixed response that stands before routes. Answers are tried in the order given; the first match is
// taken.
type Answer struct {
	Name string
	// Route, when set, confines the answer to requests that the routes of that name take.
	Route   string
	Hosts   []string // as in Route; none is every host, or those of the route
	Path    string   // prefix of whole segments, or the whole path with PathExact
	Headers []HeaderMatch
	// PathExact takes Path as the whole path, so that / does not mean everything.
	PathExact bool

	Mode   Mode
	Status int // 200 to 599
	Header []Field
	Body   []byte
}

// Field is one header field of an answer.
type Field struct{ Name, Value string }

// Target is what a lookup found.
type Target struct {
	// Route is the name of the route, or of the answer when there is no route.
	Route string
	// Revision gets the request. It is the zero value only beside an answer with mode Always.
	Revision identity.Revision
	Tag      string
	// Answer, when set, is to be given instead as its mode says. It is shared and must not be changed.
	Answer *Answer
}

// Config is everything that a table is built from.
type Config struct {
	Routes  []Route
	Answers []Answer
}
