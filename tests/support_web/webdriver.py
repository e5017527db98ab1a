"""Headless Chromium by the W3C WebDriver protocol and Debian's chromedriver. Standard library only.

    with Browser(log="driver.log") as browser:
        browser.open("http://localhost:8081/")
        browser.wait(lambda: browser.texts(".job"), 10, "a job")
        browser.click("button")
        browser.screenshot("page.png")
        assert browser.problems() == []

Every request and console message of the page is recorded: requests(), console(), and problems(), which is what a page must not have."""
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from ..support_py.ports import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER, ESCAPE, TAB = "\ue007", "\ue00c", "\ue004"


class WebDriverError(Exception):
    pass


def driver_program():
    found = shutil.which("chromedriver") or shutil.which("chromedriver", path="/usr/lib/chromium:/usr/lib/chromium-browser")
    if found is None:
        raise WebDriverError("there is no chromedriver: mk/install-deps.sh tools installs it (Debian: chromium-driver)")
    return found


class Browser:
    def __init__(self, width=1280, height=900, dark=False, log=None):
        self.profile = tempfile.mkdtemp(prefix="millrace-browser-")
        self.port = free_port()
        self.log = open(log or os.devnull, "ab")
        self.session = None
        # A group of its own: Chromium's helpers end with it.
        self.driver = subprocess.Popen([driver_program(), f"--port={self.port}"], stdout=self.log, stderr=self.log, start_new_session=True)
        self.events = []
        try:
            self._start(width, height, dark)
        except BaseException:
            self.close()
            raise

    def _start(self, width, height, dark):
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking",
                     "--disable-component-update", "--no-first-run", "--hide-scrollbars", f"--window-size={width},{height}",
                     f"--user-data-dir={self.profile}"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        if dark:
            arguments.append("--force-dark-mode")
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = self._request("POST", "/session", {"capabilities": {"alwaysMatch": wanted}}, timeout=60)
                break
            except (urllib.error.URLError, ConnectionError):
                if self.driver.poll() is not None or time.monotonic() > deadline:
                    raise WebDriverError("chromedriver did not start") from None
                time.sleep(0.05)
        self.session = answer["sessionId"]
        self._session("POST", "/timeouts", {"script": 30000, "pageLoad": 30000, "implicit": 0})

    def close(self):
        if self.session is not None:
            try:
                self._session("DELETE", "")
            except (WebDriverError, OSError):
                pass
            self.session = None
        try:
            os.killpg(self.driver.pid, 15)
        except ProcessLookupError:
            pass
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.driver.pid, 9)
            self.driver.wait()
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- the protocol ----

    def _request(self, method, path, body=None, timeout=60):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method,
                                         headers={"content-type": "application/json"} if data else {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as err:
            value = json.loads(err.read() or b"{}").get("value", {})
            raise WebDriverError(f"{value.get('error')}: {value.get('message')}") from None

    def _session(self, method, path, body=None):
        return self._request(method, f"/session/{self.session}{path}", body)

    def chrome(self, command, **parameters):
        """A command of the DevTools protocol: chrome("Network.setCacheDisabled", cacheDisabled=True)."""
        return self._session("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    # ---- pages ----

    def open(self, url):
        self._session("POST", "/url", {"url": url})

    def reload(self):
        self._session("POST", "/refresh")

    def url(self):
        return self._session("GET", "/url")

    def title(self):
        return self._session("GET", "/title")

    def script(self, source, *arguments):
        """What the function body source returns."""
        return self._session("POST", "/execute/sync", {"script": source, "args": list(arguments)})

    def resize(self, width, height, is_mobile=False):
        """The size of the page itself, also below the narrowest window."""
        self.chrome("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_mobile)

    def color_scheme(self, scheme):
        """light or dark."""
        self.chrome("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path, whole=True):
        """A PNG of the page as it is, or of the whole page with what lies below the window."""
        if whole:
            size = self.chrome("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            data = self.chrome("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        else:
            data = self._session("GET", "/screenshot")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    # ---- elements ----

    def find(self, css):
        return [element[ELEMENT] for element in self._session("POST", "/elements", {"using": "css selector", "value": css})]

    def texts(self, css):
        """The visible texts of all elements that css selects."""
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => (e.innerText ?? e.textContent).trim())", css)

    def text(self, css="body"):
        return "\n".join(self.texts(css))

    def attributes(self, css, name):
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.getAttribute(arguments[1]))", css, name)

    def element(self, css, text=None):
        """The one element that css selects, and whose text holds text."""
        found = [element for element in self.find(css) if text is None or text in self._session("GET", f"/element/{element}/text")]
        if len(found) != 1:
            raise WebDriverError(f"{len(found)} elements are {css!r}" + (f" with the text {text!r}" if text else ""))
        return found[0]

    def click(self, css, text=None):
        self._session("POST", f"/element/{self.element(css, text)}/click")

    def type(self, css, keys):
        self._session("POST", f"/element/{self.element(css)}/value", {"text": keys})

    def press(self, *keys):
        """Keys for what has the focus."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._session("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.1)
        raise AssertionError(f"waited {timeout} s in vain for {what}; the page at {self.url()} says:\n{self.text()[:3000]}")

    # ---- what went on ----

    def _collect(self):
        for entry in self._session("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            self.events.append((message["method"], message["params"]))

    def console(self, levels=("SEVERE", "WARNING")):
        """Console messages since the last call, of errors and of broken policies too."""
        return [entry["message"] for entry in self._session("POST", "/se/log", {"type": "browser"}) if entry["level"] in levels]

    def forget(self):
        """Starts the record of requests anew."""
        self._collect()
        self.events = []
        self.console()

    def requests(self):
        """[{url, method, status or None while it is open, failure or None}] since forget(), in order."""
        self._collect()
        found = {}
        for method, params in self.events:
            if method == "Network.requestWillBeSent":
                found[params["requestId"]] = {"url": params["request"]["url"], "method": params["request"]["method"], "status": None, "failure": None}
            elif method == "Network.responseReceived" and params["requestId"] in found:
                found[params["requestId"]]["status"] = params["response"]["status"]
            elif method == "Network.loadingFailed" and params["requestId"] in found and not params.get("canceled"):
                found[params["requestId"]]["failure"] = params["errorText"]
        return [request for request in found.values() if not request["url"].startswith(("data:", "blob:", "chrome:"))]

    def problems(self, ignore=None):
        """One line for each console error, failed request, and request to another host than the page's. ignore: a regular
        expression for those that the test makes on purpose."""
        host = re.match(r"\w+://([^/]*)", self.url()).group(1)
        lines = [f"console: {message}" for message in self.console()]
        for request in self.requests():
            if request["failure"] or (request["status"] or 200) >= 400:
                lines.append(f"request failed: {request['method']} {request['url']}: {request['failure'] or request['status']}")
            if re.match(r"\w+://([^/]*)", request["url"]).group(1) != host:
                lines.append(f"request to another host: {request['url']}")
        return [line for line in lines if ignore is None or not re.search(ignore, line)]
