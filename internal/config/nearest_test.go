package config

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"containerConcurrency", "timeoutSeconds", "containers", "env", "name", "image"}
	for name, want := range map[string]string{
		"containerConcurency": "containerConcurrency", "ContainerConcurrency": "containerConcurrency",
		"timeoutSecond": "timeoutSeconds", "container": "containers", "iamge": "image", "naem": "name",
		"replicas": "", "x": "", "evn": "", "environment": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
