# make demo [DEMO_SECONDS=60] [DEMO_RATE=1000]: installs what is missing, builds, runs the playground (deploy/demo.sh).
.PHONY: demo deps deps-check deps-tools deps-deep
deps:
	@mk/install-deps.sh build
deps-check:
	@mk/install-deps.sh check
deps-tools:
	@mk/install-deps.sh tools
deps-deep:
	@mk/install-deps.sh deep
# pkg-config and the compiler may only be there after deps: hence a make of its own.
demo: deps
	$(Q)$(BUILD_ALL) all
	@BUILD=$(BUILD) DEMO_SECONDS=$(or $(DEMO_SECONDS),0) DEMO_RATE=$(or $(DEMO_RATE),1000) deploy/demo.sh
