# make check-playground [ROUNDS=10] [SEED=…] [K=word]: docker-compose.yml for real, from an empty Docker daemon of its own to `down -v`
# (tests/playground). Needs root, or a Docker daemon that runs.
.PHONY: check-playground deps-playground
deps-playground:
	@mk/install-deps.sh playground
check-playground: deps-playground
	@MILLRACE_TEST_CACHE=$(or $(MILLRACE_TEST_CACHE),$(abspath build/test-cache)) PYTHONUNBUFFERED=1 \
	    python3 -m tests.playground.run $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(addprefix -k ,$(K))
