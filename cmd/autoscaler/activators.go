package main

import (
	"encoding/json"
	"net/http"
)

// connectedActivators leaves out those whose stream broke lately: they may be back in a moment, and are not there now.
func (n *node) connectedActivators() float64 {
	connected := 0
	for _, a := range n.assign.Activators() {
		if a.Connected {
			connected++
		}
	}
	return float64(connected)
}

// serveActivators answers GET /activators with a JSON array of the activators that this instance knows: whether each is
// connected, and what became of its ports.
func (n *node) serveActivators(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n.assign.Activators()) // the client has left: nobody to tell
}
