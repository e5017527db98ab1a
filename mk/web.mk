# Our own web page (jobmanager/web): its files are laid into the jobmanager as they are.
#   make check-web       the page in headless Chromium against a cluster of its own; screenshots in $(BUILD)/web
#   make web-proxy REST=localhost:8081    serves the page from the source tree before a running jobmanager
$(BUILD)/obj/jobmanager/web/web_page.o: $(wildcard $(addprefix jobmanager/web/*.,html css js svg))

.PHONY: check-web web-proxy
check-web: deps-tools
	$(Q)$(BUILD_ALL) all check-programs
	@BUILD=$(BUILD) python3 -m tests.web.run $(addprefix -k ,$(K)) $(addprefix -j ,$(PARALLEL))
web-proxy:
	@python3 -m tests.support_web.proxy $(or $(REST),localhost:8081)
