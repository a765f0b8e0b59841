package early

import "syscall"

// backlog is cut by the kernel to net.core.somaxconn.
const backlog = 1 << 15

// opened is the socket, and where it listens; 0 is none. It is written before main and taken by main.
var opened struct {
	port   uint16
	socket int
}

func init() {
	port, _ := syscall.Getenv("QUEUE_SERVING_PORT")
	bind, bound := syscall.Getenv("ROUSE_BIND_ADDRESS")
	if n := number(port); n > 0 && (!bound || bind == "::") {
		opened.port, opened.socket = n, listen(n)
	}
}

// Take returns the descriptor of the socket that listens at the port on all addresses, and leaves it to the caller. It is
// false when there is none: the caller then opens the port itself.
func Take(port uint16) (socket int, ok bool) {
	if opened.socket == 0 || opened.port != port {
		return 0, false
	}
	socket, opened.socket = opened.socket, 0
	return socket, true
}

// number is 0 for what is no port.
func number(text string) (n uint16) {
	if len(text) == 0 || len(text) > 5 {
		return 0
	}
	v := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0
		}
		v = 10*v + int(c-'0')
	}
	if v > 1<<16-1 {
		return 0
	}
	return uint16(v)
}

// listen opens the port for IPv4 and IPv6, as net.Listen does where both are there; 0 for none.
func listen(port uint16) int {
	s, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	for _, set := range []func() error{
		func() error { return syscall.SetsockoptInt(s, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0) },
		func() error { return syscall.SetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) },
		func() error { return syscall.Bind(s, &syscall.SockaddrInet6{Port: int(port)}) },
		func() error { return syscall.Listen(s, backlog) },
	} {
		if set() != nil {
			_ = syscall.Close(s) // main opens the port, or says why that fails
			return 0
		}
	}
	return s
}
