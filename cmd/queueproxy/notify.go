package main

import (
	"errors"
	"log/slog"
	"net"
	"strings"
)

// The messages of sd_notify(3) that the sidecar sends.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)

// notify tells whoever started this process how it stands, by the protocol of sd_notify(3): one datagram to the socket
// that NOTIFY_SOCKET names, where a leading @ stands for the abstract namespace. Without a name there is nobody to tell.
func (s *settings) notify(message string) error {
	if s.NotifySocket == "" {
		return nil
	}
	if !strings.HasPrefix(s.NotifySocket, "/") && !strings.HasPrefix(s.NotifySocket, "@") {
		return errors.New("the name must be an absolute path, or @ and a name")
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.NotifySocket, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(message))
	return errors.Join(err, c.Close())
}

// tell notifies; serving does not depend on it.
func (s *settings) tell(message string, log *slog.Logger) {
	if err := s.notify(message); err != nil {
		log.Warn("NOTIFY_SOCKET was not told", "message", message, "error", err.Error())
	}
}
