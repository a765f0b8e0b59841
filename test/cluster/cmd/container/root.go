package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rousehq/rouse/test/cluster/agent/process"
)

// buildRoot makes an overlay of the node's root, with fresh /proc, /run and /tmp, moves the mounts in and leaves the old root.
//
// Sources are opened before the root changes and targets are resolved after it: /var/run is a link to /run, and must
// lead into the container.
func buildRoot(s *process.Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	trees, err := openTrees(s.Mounts)
	if err != nil {
		return err
	}
	root, err := overlay(s.Root)
	if err != nil {
		return err
	}
	if err := enter(root); err != nil {
		return err
	}
	if err := errors.Join(writeResolv(s.Resolv), attach(trees, s.Mounts)); err != nil {
		return err
	}
	// Nothing of the node stays mounted here: what it unmounts later is free at once.
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove("/old")
}

// openTrees clones each source's mount, so that it can be attached when its path is no longer in sight.
func openTrees(mounts []process.Mount) ([]int, error) {
	trees := make([]int, 0, len(mounts))
	for _, m := range mounts {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("open %s for %s: %w", m.Source, m.Target, err)
		}
		trees = append(trees, fd)
	}
	return trees, nil
}

// overlay mounts the node's root with a writable layer in memory and returns where.
func overlay(dir string) (string, error) {
	if err := unix.Mount("none", dir, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("tmpfs on %s: %w", dir, err)
	}
	upper, work, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "root")
	for _, d := range []string{upper, work, merged} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	if err := unix.Mount("none", merged, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
		return "", fmt.Errorf("overlay of / on %s: %w", merged, err)
	}
	return merged, nil
}

// enter changes the root to dir, leaves the old one at /old, and mounts what belongs to the kernel.
func enter(dir string) error {
	old := filepath.Join(dir, "old")
	if err := os.Mkdir(old, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.PivotRoot(dir, old); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/old/sys", "/sys", "", unix.MS_BIND | unix.MS_REC, ""},
		{"/old/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"none", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"none", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// writeResolv replaces the file rather than its contents: on the node it may be a link to somewhere that is not here.
func writeResolv(text string) error {
	if text == "" {
		return nil
	}
	const path = "/etc/resolv.conf"
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func attach(trees []int, mounts []process.Mount) error {
	for i, m := range mounts {
		if err := attachOne(trees[i], m); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

func attachOne(tree int, m process.Mount) error {
	defer unix.Close(tree)
	if m.ReadOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	if err := makeTarget(tree, m.Target); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, m.Target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
}

// makeTarget creates what the mount covers: a directory for a directory, an empty file for a file.
func makeTarget(tree int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
