"""What a test of the page gets: a cluster of its own, and the browser of its slot as if it were new."""

import os
import traceback

from ..e2e.cluster import BUILD
from ..e2e.environment import Environment as WithClusters
from ..support_py import parallel
from ..support_web.proxy import Proxy
from ..support_web.webdriver import Browser

SCREENSHOTS = os.path.join(BUILD, "web")


class Environment(WithClusters):
    def __init__(self, test, directory, browser):
        super().__init__(test, directory)
        self.browser = browser
        browser.resize(1280, 900)
        browser.color_scheme("light")
        browser.forget()

    def cluster(self, taskmanagers=1, slots=4, config=None):
        return super().cluster(taskmanagers, slots, config)

    def proxy(self, cluster, **options):
        return self.closing(Proxy(f"127.0.0.1:{cluster.rest_port}", **options))

    def program(self, name):
        return os.path.join(BUILD, "tests", "programs", f"{name}.so")

    def screenshot(self, what=None, whole=True):
        self.browser.screenshot(os.path.join(SCREENSHOTS, f"{self.name}{'-' + what if what else ''}.png"), whole)

    def end(self, passed):
        if not passed:
            try:
                self.screenshot("failed")
            except Exception:  # the browser itself may be what failed
                traceback.print_exc()
        self.browser.open("about:blank")
        return super().end(passed)


class Suite(parallel.Suite):
    def __init__(self, root):
        self.root = root
        self.browsers = {}

    def prepare(self, slot):
        if slot not in self.browsers:
            self.browsers[slot] = Browser(log=os.path.join(self.root, f"chromedriver-{slot}.log"))

    def environment(self, test, slot, directory, ask):
        return Environment(test, directory, self.browsers[slot])

    def close(self):
        for browser in self.browsers.values():
            browser.close()
