# make bench [RECORDS=10000000] [PARALLELISM=1]: the Click Event Count job against a bare consumer (tests/bench/click_count.py).
# A bench program is tests/bench/<name>.c -> $(BUILD)/bench/<name>; it links everything, optimised.
SRC_bench := $(wildcard tests/bench/*.c)
BENCH := $(foreach s,$(SRC_bench),$(BUILD)/bench/$(basename $(notdir $(s))))
$(foreach s,$(SRC_bench),$(eval $(call test_program,bench,$(s),)))
.PHONY: bench bench-programs
bench-programs: $(BENCH)
bench: deps-check
	$(Q)$(BUILD_ALL) all bench-programs
	@BUILD=$(BUILD) MILLRACE_TEST_CACHE=$(abspath build/test-cache) \
	    python3 -m tests.bench.click_count --records $(or $(RECORDS),10000000) --parallelism $(or $(PARALLELISM),1)
# make bench-latency [ROUNDS=5]: start, submit, loss and recovery, memory (tests/bench/latency.py).
.PHONY: bench-latency
bench-latency: deps-check
	$(Q)$(BUILD_ALL) all
	@BUILD=$(BUILD) python3 -m tests.bench.latency --rounds $(or $(ROUNDS),5)
# make bench-large-state [KEYS=5000000] [ROUNDS=3]: a job with much state, with and without checkpoints (tests/bench/large_state.py).
.PHONY: bench-large-state
bench-large-state:
	$(Q)$(BUILD_ALL) all check-programs
	@BUILD=$(BUILD) python3 -m tests.bench.large_state --keys $(or $(KEYS),5000000) --rounds $(or $(ROUNDS),3)
