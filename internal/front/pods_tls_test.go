package front

import (
	"io"
	"strings"
	"testing"
)

// TestPodsCertificatesNeedAnAuthority: what cannot work is refused at the start, with the flag's name.
func TestPodsCertificatesNeedAnAuthority(t *testing.T) {
	base := []string{"--control-urls=ws://c:1", "--stats-urls=ws://c:1"}
	if _, err := Parse(append(base, "--pods-name=pod.{namespace}"), nil, io.Discard); err == nil || !strings.Contains(err.Error(), "--pods-ca-file") {
		t.Errorf("a name without an authority: %v, want --pods-ca-file named", err)
	}
	o, err := Parse(append(base, "--pods-ca-file="+t.TempDir()+"/none.crt"), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.pools(nil); err == nil || !strings.Contains(err.Error(), "--pods-ca-file") || !strings.Contains(err.Error(), "none.crt") {
		t.Errorf("a file that is not there: %v, want the flag and the file named", err)
	}
}
