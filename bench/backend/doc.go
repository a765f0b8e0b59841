//go:build linux

// Package backend is the application behind the proxies of a benchmark: as cheap as possible, so that it never is the
// bottleneck, and explicit about what it saw, so that a proxy's fidelity can be checked.
//
// The request's path chooses the answer; its body is read and thrown away, except by /echo.
//
//	/64k       200 with 64 KiB
//	/sleep     200 with 100 bytes after 10 ms
//	/silent    never answers
//	/echo      200 with the request's head as it came over the wire, and the body without its framing
//	/continue  100 Continue at once, then 200 with 100 bytes after the body
//	otherwise  200 with 100 bytes
//
// Promises: one thread and one epoll loop, about 4 µs per small request; answers carry Content-Length and keep the
// connection open; loopback only. It does not time out, log or count, and speaks HTTP/1.1 without pipelining only.
//
// A [Server] belongs to the goroutine that calls [Server.Run].
package backend
