# Style that fails the build:  make tidy (= make check-style)   a few seconds: layers, banned calls, dead code, tables (tests/style)
#                              make tidy-deep                   minutes: clang-tidy (.clang-tidy) and cppcheck over everything;
#                                                               not part of make check: install clang-tidy and cppcheck for it
.PHONY: tidy check-style tidy-deep tidy-clang tidy-cppcheck
tidy: check-style
check-style:
	@python3 -m tests.style

TIDY_SOURCES := $(call sources,common jobmanager taskmanager client) $(SRC_jobs) $(SRC_tools)
TIDY_SOURCES := $(sort $(TIDY_SOURCES))
tidy-deep: tidy-clang tidy-cppcheck
tidy-clang:
	@mkdir -p $(BUILD)
	@printf '%s\n' $(TIDY_SOURCES) | xargs -P $$(nproc) -I{} \
	    clang-tidy --quiet {} -- $(CPPFLAGS) -std=c17 $(filter-out -Werror,$(WARNINGS)) >$(BUILD)/clang-tidy.log 2>/dev/null; \
	grep -E -A3 '(warning|error):' $(BUILD)/clang-tidy.log; ! grep -qE '(warning|error):' $(BUILD)/clang-tidy.log
tidy-cppcheck:
	@cppcheck --quiet --std=c11 -j $$(nproc) --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppress=missingIncludeSystem --suppress=preprocessorErrorDirective --suppress=unknownMacro --suppress=uninitvar \
	    --suppress=incorrectStringBooleanError --suppress=nullPointerRedundantCheck $(CPPFLAGS) $(TIDY_SOURCES)
