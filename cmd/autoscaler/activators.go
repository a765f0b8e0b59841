package main

import (
	"encoding/json"
	"net/http"
)

// serveActivators answers GET /activators with a JSON array of the activators that this instance knows: whether each is
// connected, and what became of its ports.
func (n *node) serveActivators(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n.assign.Activators()) // the client has left: nobody to tell
}
