# Millrace. `make help` lists the targets; everything is built below $(BUILD), programs in $(BUILD)/bin.
# Sources are found by folder: a new .c file needs no line here.
#   SAN=address,undefined | SAN=thread   sanitizers, in a build folder of their own
#   WERROR=1                             warnings are errors (CI and developers)
#   V=1                                  show commands

ROOT    := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
comma   := ,
SAN     ?=
BUILD   ?= build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
CC      ?= gcc
WERROR  ?= 0
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)
# How targets that test or run something build first: on all processors, while their own steps stay in order.
CPUS    ?= $(shell nproc)
BUILD_ALL = $(MAKE) --no-print-directory -j$(CPUS)

VERSION := 0.1.0
COMMIT  := $(shell git -C $(ROOT) rev-parse --short=7 HEAD 2>/dev/null || echo unknown)

WARNINGS := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -Wundef -Wformat=2 -Wswitch-enum -Wcast-qual -fno-common $(if $(filter 1,$(WERROR)),-Werror) \
            $(if $(SAN),-Wno-maybe-uninitialized -Wno-format-truncation)
# Sanitized builds are only for tests: their reports need lines, not variables, and such objects are compiled and linked in half the time.
# Two warnings depend on what the optimiser sees: they are those of the other build.
OPT      ?= $(if $(SAN),-O1,-O2)
CPPFLAGS += -D_GNU_SOURCE -I. -Iclient/api -DMILLRACE_VERSION='"$(VERSION)"'
CFLAGS   += -std=c17 -g$(if $(SAN),1) $(OPT) -fno-omit-frame-pointer -pthread $(WARNINGS)
CFLAGS   += $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined)
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN))

# Libraries of each part (Debian's packages, by pkg-config name).
LIBS_common     := libuv jansson libxxhash nettle yaml-0.1 liblz4
# common/http: of the daemons, not of what runs user code.
LIBS_http       := libmicrohttpd gnutls
LIBS_runner     := rdkafka liblz4
# The runner's allocator: batches and Kafka's messages are allocated by one thread and freed by another, which glibc makes a
# contest for one arena's lock (make bench shows it). The sanitizers bring their own.
ALLOCATOR       := $(if $(SAN),,-Wl$(comma)--no-as-needed -lmimalloc -Wl$(comma)--as-needed)
LIBS_client     := libcurl libcrypto jansson
# What uses librdkafka's threads under the thread sanitizer.
TSAN_THREADS    := $(if $(filter thread,$(SAN)),$(BUILD)/obj/tests/support/c11_threads.o)
pkg = $(shell pkg-config --libs $(1) 2>/dev/null)

sources = $(sort $(foreach d,$(1),$(shell find $(d) -name '*.c' 2>/dev/null)))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

SRC_common     := $(call sources,common)
SRC_jobmanager := $(filter-out jobmanager/main.c jobmanager/compiler/%,$(call sources,jobmanager))
SRC_compiler   := $(call sources,jobmanager/compiler)
SRC_agent      := $(filter-out taskmanager/agent/main.c,$(call sources,taskmanager/agent))
SRC_runner     := $(call sources,taskmanager/task taskmanager/net taskmanager/time taskmanager/state taskmanager/ops \
                    taskmanager/formats taskmanager/connectors)
SRC_client     := $(filter-out client/cli/main.c,$(call sources,client/cli client/rest))
SRC_api        := $(filter-out %_test.c,$(wildcard client/api/*.c))
SRC_jobs       := $(wildcard deploy/playground/jobs/*.c client/examples/*.c)
SRC_tools      := $(wildcard deploy/playground/tools/*.c)
SRC_unit       := $(call sources,tests/unit)
SRC_support    := $(filter-out tests/support/c11_threads.c,$(wildcard tests/support/*.c))

LIB = $(BUILD)/lib
COMMON_A := $(LIB)/libcommon.a

PROGRAMS := $(if $(wildcard jobmanager/main.c),$(BUILD)/bin/jobmanager) \
            $(if $(wildcard jobmanager/compiler/main.c),$(BUILD)/bin/job-compiler) \
            $(if $(wildcard taskmanager/agent/main.c),$(BUILD)/bin/taskmanager) \
            $(if $(wildcard taskmanager/runner_main.c),$(BUILD)/bin/task-runner) \
            $(if $(wildcard client/cli/main.c),$(BUILD)/bin/flink)
LIBMILLRACE := $(if $(SRC_api),$(LIB)/libmillrace.so)
# click_count_job.c becomes ClickCountJob.so
camel = $(shell echo $(1) | sed -E 's/(^|_)([a-z])/\U\2/g')
JOBS  := $(foreach s,$(SRC_jobs),$(BUILD)/bin/$(call camel,$(basename $(notdir $(s)))).so)
TOOLS := $(foreach s,$(SRC_tools),$(BUILD)/bin/$(subst _,-,$(basename $(notdir $(s)))))
UNIT  := $(foreach s,$(SRC_unit),$(BUILD)/tests/$(basename $(notdir $(s))))

.PHONY: all programs unit clean help
.DEFAULT_GOAL := all
all: programs
programs: $(PROGRAMS) $(LIBMILLRACE) $(JOBS) $(TOOLS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(subst /,_,$(basename $<))) -MMD -MP -c $< -o $@

$(LIB)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(LIB)/libcommon.a: $(call objects,$(SRC_common))
$(LIB)/libjobmanager.a: $(call objects,$(SRC_jobmanager))
$(LIB)/libagent.a: $(call objects,$(SRC_agent))
$(LIB)/librunner.a: $(call objects,$(SRC_runner))
$(LIB)/libclient.a: $(call objects,$(SRC_client))
$(LIB)/libsupport.a: $(call objects,$(SRC_support))

with_libmillrace = -L$(LIB) -Wl,--no-as-needed -lmillrace -Wl,--as-needed -Wl,-rpath,'$$ORIGIN/../lib'
link = @mkdir -p $(@D); $(if $(Q),:,echo) ; $(CC) $(LDFLAGS) -o $@ $(1) $(2)
$(BUILD)/bin/jobmanager: $(BUILD)/obj/jobmanager/main.o $(LIB)/libjobmanager.a $(COMMON_A)
	$(call link,$^,$(call pkg,$(LIBS_http) $(LIBS_common)) -ldl -lm)
$(BUILD)/bin/job-compiler: $(call objects,$(SRC_compiler)) $(COMMON_A) | $(LIBMILLRACE)
	$(call link,$^,$(with_libmillrace) $(call pkg,$(LIBS_common)) -ldl -lm)
$(BUILD)/bin/taskmanager: $(BUILD)/obj/taskmanager/agent/main.o $(LIB)/libagent.a $(COMMON_A)
	$(call link,$^,$(call pkg,$(LIBS_http) $(LIBS_common)) -ldl -lm)
# The runner preloads libmillrace, so that user code that was linked against it resolves.
$(BUILD)/bin/task-runner: $(BUILD)/obj/taskmanager/runner_main.o $(TSAN_THREADS) $(LIB)/librunner.a $(COMMON_A) | $(LIBMILLRACE)
	$(call link,$^,$(ALLOCATOR) $(with_libmillrace) $(call pkg,$(LIBS_runner) $(LIBS_common)) -ldl -lm)
$(BUILD)/bin/flink: $(BUILD)/obj/client/cli/main.o $(LIB)/libclient.a $(COMMON_A)
	$(call link,$^,$(call pkg,$(LIBS_client) $(LIBS_common)) -ldl -lm)

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -MMD -MP -c $< -o $@
$(LIB)/libmillrace.so: $(patsubst %.c,$(BUILD)/pic/%.o,$(SRC_api))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libmillrace.so -o $@ $^ $(call pkg,jansson)

define job_rule
$(BUILD)/bin/$(call camel,$(basename $(notdir $(1)))).so: $(BUILD)/pic/$(1:.c=.o) | $(LIBMILLRACE)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) -shared -o $$@ $$^ -L$(LIB) -lmillrace -Wl,-rpath,'$$$$ORIGIN/../lib'
endef
$(foreach s,$(SRC_jobs),$(eval $(call job_rule,$(s))))

define tool_rule
$(BUILD)/bin/$(subst _,-,$(basename $(notdir $(1)))): $(BUILD)/obj/$(1:.c=.o) $(TSAN_THREADS) $(COMMON_A)
	$$(call link,$$^,$$(call pkg,rdkafka $(LIBS_common)) -ldl -lm)
endef
$(foreach s,$(SRC_tools),$(eval $(call tool_rule,$(s))))

# A unit test is a program of its own: tests/unit/test_<noun>.c with a main that runs a Check suite. It is linked with the
# parts whose headers it includes (and so are fuzz targets and benches, mk/*.mk).
includes = $(shell grep -l '^\#include "$(1)' $(2) 2>/dev/null)
parts_of = $(if $(call includes,tests/support,$(1)),$(LIB)/libsupport.a) $(if $(call includes,jobmanager/,$(1)),$(LIB)/libjobmanager.a) \
           $(if $(call includes,taskmanager/agent,$(1)),$(LIB)/libagent.a) \
           $(if $(call includes,taskmanager/[^a]\|tests/support,$(1)),$(LIB)/librunner.a) \
           $(if $(call includes,client/,$(1)),$(LIB)/libclient.a) $(COMMON_A)
LIBS_all := check rdkafka $(LIBS_http) libcurl libcrypto $(LIBS_common)
# $(call test_program,directory,source)
define test_program
$(BUILD)/$(1)/$(basename $(notdir $(2))): $(BUILD)/obj/$(2:.c=.o) $(3) $(call parts_of,$(2))
	$$(call link,$(BUILD)/obj/$(2:.c=.o) $(3) -Wl$$(comma)--start-group $(call parts_of,$(2)) -Wl$$(comma)--end-group,\
	    -rdynamic $(if $(filter bench,$(1)),$$(ALLOCATOR)) $$(call pkg,$(LIBS_all)) -ldl -lm)
endef
unit: $(UNIT)
$(foreach s,$(SRC_unit),$(eval $(call test_program,tests,$(s),$(TSAN_THREADS))))

clean:
	rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/pic -name '*.d' 2>/dev/null)
-include mk/*.mk
