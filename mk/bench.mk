# make bench [RECORDS=10000000] [PARALLELISM=1]: the Click Event Count job against a bare consumer (tests/bench/click_count.py).
# A bench program is tests/bench/<name>.c -> $(BUILD)/bench/<name>; it links everything, optimised.
SRC_bench := $(wildcard tests/bench/*.c)
BENCH := $(foreach s,$(SRC_bench),$(BUILD)/bench/$(basename $(notdir $(s))))
$(foreach s,$(SRC_bench),$(eval $(call test_program,bench,$(s),)))
.PHONY: bench bench-programs
bench-programs: $(BENCH)
bench: deps-check
	@$(MAKE) --no-print-directory all bench-programs
	@BUILD=$(BUILD) MILLRACE_TEST_CACHE=$(abspath build/test-cache) python3 -m tests.bench.click_count --records $(or $(RECORDS),10000000) --parallelism $(or $(PARALLELISM),1)
# make bench-latency [ROUNDS=5]: start, submit, loss and recovery, memory (tests/bench/latency.py).
.PHONY: bench-latency
bench-latency: deps-check
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) python3 -m tests.bench.latency --rounds $(or $(ROUNDS),5)
