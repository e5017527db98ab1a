# make bench-state: lookups and snapshot pauses of keyed state (BENCH_STATE_ARGS="--keys 5000000 --seconds 20").
# The program itself is built by the rule for tests/bench (mk/bench.mk).
.PHONY: bench-state
bench-state: $(BUILD)/bench/bench_state
	@mkdir -p $(BUILD)/bench/state
	$(BUILD)/bench/bench_state --directory $(BUILD)/bench/state --json $(BUILD)/bench/state.json $(BENCH_STATE_ARGS)
	@rm -rf $(BUILD)/bench/state
