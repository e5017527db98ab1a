# make check-flink-tools [VERSION=1.20.1] [K=word]: Flink's own command line and web dashboard, unmodified, against our cluster. Fetches
# their published Java packages with Maven; the dashboard runs in headless Chromium, screenshots stay below $(BUILD)/flink-tools.
FLINK_TOOLS_VERSION = $(if $(filter command% environment,$(origin VERSION)),$(VERSION))
.PHONY: check-flink-tools
check-flink-tools:
	@mk/install-deps.sh tools
	$(Q)$(BUILD_ALL) all check-programs
	@BUILD=$(BUILD) MILLRACE_TEST_CACHE=$(or $(MILLRACE_TEST_CACHE),$(abspath build/test-cache)) python3 -m tests.flink_tools.run \
	    $(if $(FLINK_TOOLS_VERSION),--version $(FLINK_TOOLS_VERSION)) $(addprefix -k ,$(K))
