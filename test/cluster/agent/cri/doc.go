// Package cri is a container runtime without images and without Docker: it implements the interface through which kubelet talks to
// containerd, and every container is a process of the node in namespaces of its own, started by cmd/container.
//
//   - A pod is a network namespace with an address on the node's bridge, a host name and a resolv.conf.
//   - Image registry/NAME:tag is the local binary NAME in the directory of images, mounted at /ko-app/NAME, run as user 65532 unless the pod
//     says otherwise. Image registry/host has no program: the container's command finds the node's own.
//   - A container's first process is process 1 of its own namespace: when it ends, the kernel kills the rest of the container.
//   - Limits of memory and CPU become cgroups where the kernel lets us; New says when it doesn't.
//
// What it does not do: pull, snapshot, volumes' propagation, seccomp, capabilities, shared process namespaces, terminals. A Runtime is safe for
// concurrent use. It starts one goroutine per running container, which ends with the container; Close kills what is left and waits.
package cri
