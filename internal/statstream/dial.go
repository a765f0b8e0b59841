package statstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
)

// spreading connects to any of the addresses behind a name. The order in which a name server lists them is often always
// the same: then all producers would go to one receiver, and come back to it although it only seems to be alive.
func spreading() *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return dialAny(ctx, addrs, func(ctx context.Context, ip string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(ip, port))
		})
	}
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DialContext: dial}}
}

// dialAny tries the addresses in a random order; the first that takes the connection will do.
func dialAny(ctx context.Context, addrs []string, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	errs := []error{errors.New("no address answers")}
	for _, i := range rand.Perm(len(addrs)) {
		conn, err := dial(ctx, addrs[i])
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
