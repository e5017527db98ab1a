# make bench [RECORDS=10000000] [PARALLELISM=1]: the Click Event Count job against a bare consumer (tests/bench/click_count.py).
# A bench program is tests/bench/<name>.c -> $(BUILD)/bench/<name>; it links everything, optimised.
SRC_bench := $(wildcard tests/bench/*.c)
BENCH := $(foreach s,$(SRC_bench),$(BUILD)/bench/$(basename $(notdir $(s))))
define bench_rule
$(BUILD)/bench/$(basename $(notdir $(1))): $(BUILD)/obj/$(1:.c=.o) $(LIB)/libsupport.a $(LIB)/libjobmanager.a $(LIB)/libagent.a $(LIB)/librunner.a $(LIB)/libclient.a $(COMMON_A)
	$$(call link,$(BUILD)/obj/$(1:.c=.o) -Wl$$(comma)--start-group $(LIB)/libsupport.a $(LIB)/libjobmanager.a $(LIB)/libagent.a $(LIB)/librunner.a $(LIB)/libclient.a $(COMMON_A) -Wl$$(comma)--end-group,-rdynamic $$(call pkg,check rdkafka libmicrohttpd libcurl $(LIBS_common)) -ldl -lm)
endef
$(foreach s,$(SRC_bench),$(eval $(call bench_rule,$(s))))
.PHONY: bench bench-programs
bench-programs: $(BENCH)
bench: deps-check
	@$(MAKE) --no-print-directory all bench-programs
	@BUILD=$(BUILD) MILLRACE_TEST_CACHE=$(abspath build/test-cache) python3 -m tests.bench.click_count --records $(or $(RECORDS),10000000) --parallelism $(or $(PARALLELISM),1)
