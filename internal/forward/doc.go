// Package forward is the one HTTP forwarding engine: the activator and the queue-proxy are two handlers on it.
//
// # Life of a request
//
//	accept → read head → [Handler.ServeExchange: route, admit (may park), pick] → [Exchange.Forward: connect,
//	send head and body, receive head and body] → done
//
// The handler runs on the goroutine that owns the stream: the connection's for HTTP/1, net/http's for HTTP/2. It
// may block: the request's body has not been read yet, and nothing but that goroutine waits. There is no goroutine
// and no timer per request.
//
// # Promises
//
//   - Streams stay streams, in both directions: bodies of any size in bounded memory, full duplex, trailers, 1xx,
//     server-sent events at once, upgrades as tunnels that no request timeout cuts.
//   - HTTP/1.1 to HTTP/1.1 keeps header case, order and repetition and the raw target. Hop-by-hop headers are removed.
//   - What could be smuggled is answered 400 and the connection closes.
//   - A request is sent a second time only when certainly no application saw the first ([Result.Retryable]).
//   - No timeout writes into a response that has begun: the stream is aborted instead.
//   - A client that leaves cancels its parked wait or its upstream at once, and counts as 499.
//
// # What it does not do
//
// It does not route, limit, balance or count: handlers do. It opens no listener and resolves no name: listeners and
// dialers come from outside, so that tests can drive it over in-memory connections in virtual time.
//
// A [Server] and a [Pool] are safe for concurrent use. An [Exchange] belongs to its handler's goroutine, and it and
// every byte slice obtained from it are invalid once ServeExchange has returned.
package forward
