package config

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// serviceLink says whether a variable is kubelet's and no setting: every container of a namespace gets NAME_PORT=tcp://10.96.0.7:80
// for a Service of this name, unless its pod has enableServiceLinks: false
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables). No setting of such a name takes such a
// value.
func serviceLink(name, value string) bool {
	protocol, address, _ := strings.Cut(value, "://")
	if !strings.HasSuffix(name, "_PORT") || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return false
	}
	_, err := netip.ParseAddrPort(address)
	return err == nil
}

// ServiceLinks lists the variables of dst, as of [FromEnviron], that are links to Services in an environment: they are read as
// if they were not set.
func ServiceLinks(environ []string, dst any) (names []string) {
	vars := env.ToMap(environ)
	for _, name := range slices.Sorted(maps.Values(tags(reflect.TypeOf(dst).Elem()))) {
		if serviceLink(name, vars[name]) {
			names = append(names, name)
		}
	}
	return names
}
