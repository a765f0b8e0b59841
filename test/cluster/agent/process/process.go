// Package process says what the shim needs to know to turn itself into a container's first process. The node agent writes
// a Spec as JSON to the shim's file descriptor 3; the shim (cmd/container) answers on descriptor 4: nothing when the program runs, else
// the reason why not. Values only; safe for concurrent use when not written to.
package process

// Descriptors that the shim inherits.
const (
	SpecFD  = 3 // the Spec, JSON, until end of file
	ErrorFD = 4 // closed by a successful exec; a text before that is the failure
)

// Spec is one container.
type Spec struct {
	Netns    string   // path of the pod's network namespace; empty: the node's own
	Hostname string   // of the pod; empty: the node's own
	Root     string   // an empty directory of the container's, where its file system is put together
	Cgroups  []string // directories of cgroups to join
	Resolv   string   // contents of /etc/resolv.conf; empty: the node's own
	Mounts   []Mount
	Dir      string // working directory
	Args     []string
	Env      []string
	UID, GID uint32
}

// Mount puts a file or a directory of the node into the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}
