package forward

import "github.com/rousehq/rouse/internal/fault"

// forwardH2 forwards the request of an HTTP/1 client to a pod that speaks HTTP/2 or TLS.
func (c *conn) forwardH2(to *Pool) Result {
	return c.failed(fault.ConnectFailed, errMisuse)
}
