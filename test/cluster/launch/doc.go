// Package launch starts a whole Kubernetes cluster for the length of one command.
//
//   - Build compiles the components into a cache that is keyed by their sources.
//   - Enter starts this program again in private mount, process and network namespaces; everything in there dies with it.
//   - Inside brings etcd, the API server, controllers, scheduler, kube-proxy and the node up in the namespaces, then runs the command.
//
// It needs root, and what the cluster itself calls: nft (kube-proxy), mount and nsenter (kubelet and its runtime). Check names what is missing. Nothing
// on the machine changes but the cache and the state directory.
package launch
