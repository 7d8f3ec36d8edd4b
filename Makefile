# Every target that a person calls has one line of help after its "##".
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The sandbox keeps what it builds, and the cluster it runs, in one directory.
export SANDBOX_STATE ?= /var/lib/virtualization-sandbox
SANDBOX := bin/sandbox

# The sandbox builds our programs in this way; tests and linter use the same, or
# every package would be compiled twice.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

# Each module has dependencies that do not go with the others'.
MODULES := . api hooks sandbox sandbox/deckhouse test/render tools tools/promote tools/sbom
LINTER := bin/golangci-lint

# The linter remembers findings with the paths of the checkout they were seen in:
# two checkouts that share a cache read each other's, also when one is gone.
export GOLANGCI_LINT_CACHE := $(CURDIR)/bin/golangci-lint-cache

.PHONY: up
up: $(SANDBOX) ## Start a two-node Kubernetes with the module and boot a guest (first time: up to 40 minutes)
	$(SANDBOX) up

.PHONY: down
down: $(SANDBOX) ## Stop the sandbox and remove all it made, apart from the build cache
	$(SANDBOX) down

.PHONY: status
status: $(SANDBOX) ## Show the sandbox's nodes, processes and module
	$(SANDBOX) status

.PHONY: test
test: $(SANDBOX) ## Run the unit tests and the tests against a real kube-apiserver
	@set -e; export KUBEBUILDER_ASSETS="$$($(SANDBOX) build kubernetes | awk '$$1 == "kubernetes" {print $$2}')"; \
	export PROMTOOL="$$($(SANDBOX) build prometheus | awk '$$1 == "promtool" {print $$2}')"; \
	export OBJECT_STORE="$$($(SANDBOX) build versitygw | awk '$$1 == "versitygw" {print $$2}')"; \
	for module in $(MODULES); do echo "== go test $$module"; (cd $$module && go test $$(case $$module in test/render) echo -count=1;; esac) -timeout=30m ./...); done

.PHONY: crash
crash: $(SANDBOX) ## Kill the controllers before and after each write; `make test` leaves half of these deaths out
	@set -e; export KUBEBUILDER_ASSETS="$$($(SANDBOX) build kubernetes | awk '$$1 == "kubernetes" {print $$2}')"; \
	go test ./test/crash -count=1 -timeout=30m -every-death

.PHONY: e2e
e2e: $(SANDBOX) ## Run the end-to-end tests on the running sandbox; the last one updates the module, removes it and brings it back
	KUBECONFIG=$(SANDBOX_STATE)/kubeconfig go test ./test/e2e/... -count=1 -timeout=45m -v -tags=e2e -skip='^TestLifeOfTheModule$$'
	KUBECONFIG=$(SANDBOX_STATE)/kubeconfig go test ./test/e2e -count=1 -timeout=25m -v -tags=e2e -run='^TestLifeOfTheModule$$'

.PHONY: rights
rights: ## Add to test/render/testdata/used-rights.txt which rights the last end-to-end run made use of
	go run ./test/rights -logs $(SANDBOX_STATE)/logs/node-1 -list test/render/testdata/used-rights.txt

# Flags of the measurement, such as --only=qcow2 or --cdi=false.
BENCH ?=

.PHONY: bench
bench: ## Measure on the running sandbox how fast images and disks are made (flags in BENCH)
	KUBECONFIG=$(SANDBOX_STATE)/kubeconfig go run ./test/bench $(BENCH)

.PHONY: bench-console
bench-console: ## Measure on the running sandbox how soon a guest speaks, against KubeVirt by hand (flags in BENCH)
	KUBECONFIG=$(SANDBOX_STATE)/kubeconfig go run ./test/bench/console $(BENCH)

# Flags of the measurement, such as -machines=200.
SCALE ?=

.PHONY: scale
scale: $(SANDBOX) ## Measure what 2,000 machines cost the controllers (flags in SCALE)
	@set -e; export KUBEBUILDER_ASSETS="$$($(SANDBOX) build kubernetes | awk '$$1 == "kubernetes" {print $$2}')"; \
	go test ./test/scale -run='^$$' -bench=. -benchtime=1x -timeout=60m -v $(SCALE)

# How long each fuzz target runs.
export FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## Fuzz everything that reads strangers' bytes, FUZZTIME each
	.ci/fuzz

.PHONY: verify
verify: generate ## Regenerate all that is generated and fail when that changes a file
	@dirty="$$(git status --porcelain)"; if [ -n "$$dirty" ]; then \
	  echo "These files are not as generated, or not committed; run 'make generate' and commit:"; echo "$$dirty"; git diff --stat; exit 1; fi

.PHONY: lint
lint: $(LINTER) ## Check the style of the Go code
	@set -e; for module in $(MODULES); do echo "== lint $$module"; (cd $$module && $(CURDIR)/$(LINTER) run --config $(CURDIR)/.golangci.yml ./...); done

.PHONY: generate
generate: ## Generate deep copies, CRDs, reference pages and the engine's manifests
	go -C tools generate ./...

.PHONY: images
images: $(SANDBOX) ## Build every container image and print where it is
	$(SANDBOX) build images

.PHONY: client
client: ## Build d8v for Linux, macOS and Windows into bin/client
	tools/client.sh bin/client

.PHONY: sbom
sbom: $(SANDBOX) ## Write what every image is made of (CycloneDX) and the licences of all that, and print where
	$(SANDBOX) build sbom

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Go decides itself whether there is anything to build. The first time takes a few
# minutes, in which Go says nothing.
.PHONY: $(SANDBOX)
$(SANDBOX):
	@(while sleep 20; do echo "still compiling $(SANDBOX)"; done) & ticker=$$!; trap "kill $$ticker" EXIT; \
	go -C sandbox build -o $(CURDIR)/$(SANDBOX) ./cmd/sandbox

$(LINTER): tools/go.mod tools/go.sum
	go -C tools build -o $(CURDIR)/$(LINTER) github.com/golangci/golangci-lint/v2/cmd/golangci-lint
