// Package route decides which revision answers a request: by host, path, headers and traffic percentages.
//
// A [Table] is immutable. Whoever uses it keeps it behind an atomic pointer and swaps in a new one when a service, a
// traffic split or a step of a [Rollout] changes; requests under way keep the table that they began with.
//
// Promises: [Table.Lookup] allocates nothing, takes no lock and costs the same with one host or ten thousand. The
// more specific rule wins: exact host before wildcard, longer wildcard before shorter; then the longer path prefix;
// then more header matches; then the order in which the routes were given. A host whose own routes do not match
// falls through to the wildcards that cover it. Percentages are kept by a low-discrepancy sequence rather than by
// chance: after n requests a share is off by a few requests, not by a few times the square root of n, and the
// sequence goes on when the table is swapped.
//
// Paths are compared as they were sent, query excluded, by whole segments: /api covers /api and /api/x, not /apix.
// They are not cleaned or decoded, so a route is no access control.
//
// The package is pure: no clock, no sockets, no logger. A Table is safe for concurrent use.
package route
