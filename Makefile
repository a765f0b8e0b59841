# `make` prints this help. `make check` is what CI calls first.
GO      ?= go
BIN     := bin
TOOLS   := $(CURDIR)/.cache/tools
LINT    := $(TOOLS)/golangci-lint-v2.15.0

.PHONY: help run build check fmt vet lint test count bench-deps

help: ## print this help
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the example service on :8080, scaled from zero
	$(GO) run ./cmd/rouse up -f examples/hello.yaml

build: ## build every binary into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

check: fmt vet lint test ## format, vet, lint, and all tests with the race detector

fmt: ## fail when a file is not gofmt'ed
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt'ed:"; echo "$$out"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

lint: $(LINT) ## golangci-lint, see .golangci.yml
	$(LINT) run ./...

$(LINT):
	@mkdir -p $(TOOLS)
	cd $(TOOLS) && GOFLAGS=-mod=mod GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $@

test: ## go test -race on everything; holds the count against .ci/tests.min
	$(GO) run ./internal/citest -suite unit -- $(GO) test -race -shuffle=on -timeout 10m ./...

bench-deps: ## install the rivals that `rouse bench proxy` measures (Debian, Ubuntu; asks for root)
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get install -y --no-install-recommends haproxy nginx-light
