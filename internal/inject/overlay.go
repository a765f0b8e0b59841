package inject

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// overlay brings a sidecar that is there up to date. What injection says is set, and what it said and says no longer goes; whatever
// else the container has was added by somebody and stays: variables, mounts, limits, a pull policy.
func overlay(have, want *yaml.Node) (changed bool, err error) {
	for i := 0; i+1 < len(want.Content); i += 2 {
		key, value := want.Content[i].Value, want.Content[i+1]
		one := false
		switch key {
		case "ports", "env":
			one, err = setNamed(have, key, value)
		case "resources":
			one, err = setFields(have, key, value, 2)
		case "lifecycle", "securityContext":
			one, err = setFields(have, key, value, 1)
		case "volumeMounts": // below
		default:
			one, err = put(have, key, value)
		}
		if err != nil {
			return changed, err
		}
		changed = changed || one
	}
	mounts := lookup(want, "volumeMounts")
	if mounts == nil {
		mounts = &yaml.Node{Kind: yaml.SequenceNode}
	}
	one, err := setNamed(have, "volumeMounts", mounts)
	return changed || one, err
}

// setFields sets the fields of a mapping that are wanted; those of deeper mappings are set so, too, as far as depth goes.
func setFields(n *yaml.Node, key string, want *yaml.Node, depth int) (changed bool, err error) {
	have := lookup(n, key)
	if depth == 0 || have == nil || have.Kind != yaml.MappingNode {
		return put(n, key, want)
	}
	for i := 0; i+1 < len(want.Content); i += 2 {
		one, err := setFields(have, want.Content[i].Value, want.Content[i+1], depth-1)
		if err != nil {
			return changed, err
		}
		changed = changed || one
	}
	return changed, nil
}

// setNamed makes a list have the items that are wanted, each once. Of the others those go that are ours by their name.
func setNamed(n *yaml.Node, key string, want *yaml.Node) (changed bool, err error) {
	list := lookup(n, key)
	if list == nil || list.Kind != yaml.SequenceNode {
		if len(want.Content) == 0 {
			return false, nil
		}
		return put(n, key, want)
	}
	wanted := make(map[string]*yaml.Node)
	for _, w := range want.Content {
		wanted[itemName(w)] = w
	}
	var items []*yaml.Node
	found := make(map[string]bool)
	for _, item := range list.Content {
		name := itemName(item)
		w := wanted[name]
		if w != nil && found[name] || w == nil && isRetired(key, name) {
			changed = true
			continue
		}
		if found[name] = true; w != nil && !same(item, w) {
			w.HeadComment, w.LineComment, w.FootComment = item.HeadComment, item.LineComment, item.FootComment
			item, changed = w, true
		}
		items = append(items, item)
	}
	for _, w := range want.Content {
		if !found[itemName(w)] {
			items, changed, list.Style = append(items, w), true, 0
		}
	}
	if list.Content = items; len(items) == 0 && changed {
		drop(n, key)
	}
	return changed, nil
}

// isRetired says that an item of the sidecar's lists which is not wanted is of our making.
func isRetired(key, name string) bool {
	return key == "env" && slices.Contains(sometimes, name) || key == "volumeMounts" && name == tokenVolume
}

func itemName(item *yaml.Node) string { return field{node: resolved(item)}.at("name").text() }
