"""What people do with the page: savepoints, stops, cancelling, tokens; and what it does when the jobmanager is out of reach."""
import http.client
import os
import time
import urllib.error
import urllib.request

from .test_shows import open_job, page


def outcome(browser, kind, state, timeout=30):
    """The text of the newest request of this kind when it has come to that state."""
    css = f'.operation.{state}[data-operation="{kind}"]'
    browser.wait(lambda: browser.find(css), timeout, f"{kind} to be {state}")
    return browser.texts(css)[0]


def path_of(browser):
    location = browser.texts(".operation .location code")[0]
    assert location.startswith("file:/"), location
    return location[len("file:"):]


def test_savepoint(env):
    cluster, browser = env.cluster(), env.browser
    job = open_job(env, cluster)
    browser.click(".title button", "Savepoint")
    browser.wait(lambda: browser.attributes("dialog input", "placeholder") == [f"{cluster.directory}/savepoints"], 10, "the default directory")
    browser.click("dialog button", "Take the savepoint")
    assert not browser.find("dialog[open]")
    outcome(browser, "savepoint", "done")
    path = path_of(browser)
    assert os.path.isfile(os.path.join(path, "_metadata")), path
    assert any(f"-s file:{path} " in text for text in browser.texts(".operation .command code"))
    assert cluster.state(job) == "RUNNING"
    browser.wait(lambda: browser.find(".column.savepoint .letter"), 10, "the savepoint in the chart")
    # It is still there when the page is loaded again, until it is dismissed.
    browser.reload()
    assert path in outcome(browser, "savepoint", "done")
    env.screenshot()
    browser.click(".operation button", "Dismiss")
    assert not browser.find(".operation")
    assert browser.problems() == [], browser.problems()


def test_savepoint_fails(env):
    """The server's own words."""
    cluster, browser = env.cluster(), env.browser
    open_job(env, cluster)
    browser.click(".title button", "Savepoint")
    browser.type("dialog input", "/dev/null/here")
    browser.press("\ue007")
    text = outcome(browser, "savepoint", "failed")
    assert "Failed to create savepoint directory at /dev/null/here" in text and "CheckpointException" in text, text
    env.screenshot()
    assert browser.problems() == [], browser.problems()


def test_savepoint_refused(env):
    """Without any directory the request itself is refused."""
    cluster, browser = env.cluster(config={"state.savepoints.dir": "", "execution.checkpointing.savepoint-dir": ""}), env.browser
    open_job(env, cluster)
    browser.click(".title button", "Savepoint")
    browser.wait(lambda: "No directory for savepoints is configured" in browser.text("dialog"), 10, "the missing directory")
    browser.click("dialog button", "Take the savepoint")
    text = outcome(browser, "savepoint", "failed")
    assert "is not set. Property [target-directory] must be provided." in text, text
    assert all("/savepoints" in line and "400" in line for line in browser.problems()), browser.problems()


def test_stop(env):
    cluster, browser = env.cluster(), env.browser
    job = open_job(env, cluster)
    browser.click(".title button", "Stop")
    browser.click("dialog button", "Back")
    time.sleep(0.5)
    assert cluster.state(job) == "RUNNING"
    browser.click(".title button", "Stop")
    browser.type("dialog input[name=directory]", os.path.join(cluster.directory, "elsewhere"))
    browser.click("dialog button", "Stop the job")
    outcome(browser, "stop", "done")
    path = path_of(browser)
    assert path.startswith(os.path.join(cluster.directory, "elsewhere")) and os.path.isfile(os.path.join(path, "_metadata")), path
    cluster.wait_state(job, "FINISHED")
    browser.wait(lambda: browser.texts(".title .badge") == ["FINISHED"], 10, "the finished job")
    assert not browser.find(".title button")
    again = cluster.run("-s", path, env.program("shown"))
    cluster.wait_running(again)
    assert browser.problems() == [], browser.problems()


def test_drain(env):
    cluster, browser = env.cluster(), env.browser
    job = open_job(env, cluster)
    browser.click(".title button", "Stop")
    browser.click("dialog input[name=drain]")
    browser.click("dialog button", "Stop the job")
    outcome(browser, "drain", "done")
    cluster.wait_state(job, "FINISHED")
    assert os.path.isfile(os.path.join(path_of(browser), "_metadata"))


def test_cancel(env):
    cluster, browser = env.cluster(), env.browser
    job = open_job(env, cluster)
    browser.click(".title button", "Cancel")
    assert "Cancel Shown?" in browser.text("dialog h2")
    env.screenshot("dialog", whole=False)
    browser.press("\ue00c")
    time.sleep(0.5)
    assert cluster.state(job) == "RUNNING"
    browser.click(".title button", "Cancel")
    browser.click("dialog button", "Cancel the job")
    outcome(browser, "cancel", "done")
    assert cluster.state(job) == "CANCELED"
    browser.wait(lambda: browser.texts(".title .badge") == ["CANCELED"] and not browser.find(".title button"), 10, "the cancelled job")
    browser.wait(lambda: "4 of 4 slots free" in browser.text("header"), 10, "free slots")
    assert browser.problems() == [], browser.problems()


def test_cancel_is_off(env):
    cluster, browser = env.cluster(config={"web.cancel.enable": "false"}), env.browser
    open_job(env, cluster)
    enabled = browser.script("return [...document.querySelectorAll('.title button')].map(b => [b.textContent, b.disabled, b.title])")
    assert [(name[:4], off) for name, off, _ in enabled] == [("Save", False), ("Stop", True), ("Canc", True)], enabled
    assert "web.cancel.enable" in enabled[2][2], enabled


def test_out_of_reach(env):
    """The page says so, tries less and less often, and goes on by itself when the jobmanager is back."""
    cluster, browser = env.cluster(), env.browser
    proxy = env.proxy(cluster)
    port = proxy.server.server_address[1]
    job = cluster.run(env.program("shown"))
    cluster.wait_running(job)
    browser.open(proxy.url)
    browser.wait(lambda: len(browser.find(".box")) == 5, 10, "the graph")
    assert browser.problems() == [], browser.problems()
    proxy.stop()
    env.closers.remove(proxy)
    browser.wait(lambda: f"The jobmanager at 127.0.0.1:{port} cannot be reached" in browser.text("#notice"), 20, "the notice")
    assert "no connection" in browser.text("header") and browser.title() == "No connection – Millrace"
    assert len(browser.find(".box")) == 5 and "what it said last" in browser.text("#notice")
    time.sleep(1)
    env.screenshot()
    browser.forget()
    time.sleep(4)
    asked = browser.requests()
    assert len(asked) <= 12, f"{len(asked)} requests in 4 s while nobody answers"
    env.proxy(cluster, port=port)
    browser.click("#notice button", "Try now")
    browser.wait(lambda: not browser.find(".notice") and "live" in browser.text("header"), 30, "the page to go on")
    before = int(browser.attributes(".box", "data-rows")[0])
    browser.wait(lambda: int(browser.attributes(".box", "data-rows")[0]) > before, 10, "rows that increase again")


def test_restarted_jobmanager(env):
    """A jobmanager that comes back without the job: said plainly."""
    cluster, browser = env.cluster(), env.browser
    job = open_job(env, cluster)
    browser.open(f"{page(cluster)}#/jobs/{job}")
    browser.wait(lambda: browser.find(".box"), 10, "the graph")
    cluster.jobmanager.terminate()
    assert cluster.jobmanager.wait(15) == 0
    cluster.jobmanager = cluster._spawn("jobmanager", "jobmanager")
    browser.wait(lambda: "This jobmanager knows no such job" in browser.text("#job"), 30, "the missing job")
    assert "No jobs yet" in browser.text("#jobs")


def test_other_addresses(env):
    """The same page at /millrace/, below a proxy's prefix, and below one that looks like our own path."""
    cluster, browser = env.cluster(), env.browser
    job = cluster.run(env.program("shown"))
    cluster.wait_running(job)
    plain = page(cluster)
    for url in (plain + "millrace/", plain + "millrace", env.proxy(cluster, prefix="/a/b").url, env.proxy(cluster, prefix="/a/b").url + "millrace/"):
        browser.open("about:blank")
        browser.forget()
        browser.open(url)
        browser.wait(lambda: len(browser.find(".box")) == 5, 10, f"the graph at {url}")
        assert browser.problems() == [], browser.problems()
    browser.open("about:blank")
    browser.forget()
    browser.open(env.proxy(cluster, prefix="/a/millrace").url)
    browser.wait(lambda: len(browser.find(".box")) == 5, 10, "the graph below a prefix that ends in /millrace")
    strange = [line for line in browser.problems() if "/a/config" not in line]
    assert strange == [], strange


def headers(url, given=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=given or {})) as answer:
        return answer.headers


def status(url, given=None):
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=given or {})).close()
        return 200
    except urllib.error.HTTPError as err:
        return err.code


def redirect(cluster, path):
    """Where path leads to."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.rest_port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 301 and answer.getheader("Set-Cookie") is None, (answer.status, answer.getheaders())
    connection.close()
    return answer.getheader("Location")


def test_headers(env):
    cluster = env.cluster(taskmanagers=0)
    for path in ("", "millrace/", "page.js", "millrace/graph.css"):
        found = headers(page(cluster) + path)
        assert found["Content-Security-Policy"].startswith("default-src 'self'"), found
        assert found["X-Content-Type-Options"] == "nosniff"
        assert status(page(cluster) + path, {"If-None-Match": found["ETag"]}) == 304
    for path in ("web_page.c", "millrace/nothing.js", "millrace/%2e%2e/page.js", "millrace/..%2fpage.js", "nothing"):
        assert status(page(cluster) + path) == 404, path


def test_other_dashboard(env):
    """web.ui.dir puts another page at the root; ours stays below /millrace/."""
    folder = os.path.join(env.directory, "dashboard")
    os.makedirs(os.path.join(folder, "assets"))
    with open(os.path.join(folder, "index.html"), "w") as f:
        f.write("<title>Another</title>")
    cluster, browser = env.cluster(config={"web.ui.dir": folder}), env.browser
    assert "Content-Security-Policy" not in headers(page(cluster))
    browser.open(page(cluster))
    assert browser.title() == "Another"
    browser.open(page(cluster) + "millrace/")
    browser.wait(lambda: "No jobs yet" in browser.text(), 10, "our own page")
    assert status(page(cluster) + "page.js") == 404
    # A folder without its slash; what its name holds stays in its header.
    os.makedirs(os.path.join(folder, "a\r\nSet-Cookie: b"))
    assert redirect(cluster, "/assets") == "assets/"
    assert redirect(cluster, "/a%0d%0aSet-Cookie:%20b") == "a%0D%0ASet-Cookie%3A%20b/"
    assert headers(page(cluster) + "overview").get_content_type() == "application/json"


def test_token(env):
    """A jobmanager that wants a token: asked for once, kept in the tab."""
    file = os.path.join(env.directory, "token")
    with open(file, "w") as f:
        f.write("an-honest-token-of-some-length\n")
    os.chmod(file, 0o600)
    cluster, browser = env.cluster(taskmanagers=0), env.browser
    cluster.stop()
    with open(cluster.conf, "a") as f:
        f.write(f"security.rest.token-file: {file}\n")
    cluster.jobmanager = cluster._spawn("jobmanager", "jobmanager")
    cluster.wait(lambda: status_or_none(page(cluster)) == 200, 20, "the page, which needs no token")
    assert status(page(cluster) + "overview") == 401
    browser.open(page(cluster))
    browser.wait(lambda: browser.find("#token form"), 10, "the question for the token")
    assert not browser.text("#token form .bad")
    browser.type("#token-input", "a guess\ue007")
    browser.wait(lambda: "refused" in browser.text("#token form .bad"), 10, "the refusal")
    env.screenshot()
    browser.forget()
    browser.script("document.getElementById('token-input').value = ''")
    browser.type("#token-input", "an-honest-token-of-some-length\ue007")
    browser.wait(lambda: "No jobs yet" in browser.text("#jobs"), 10, "the page behind the token")
    browser.reload()
    browser.wait(lambda: "No jobs yet" in browser.text("#jobs"), 10, "the page again, without a question")
    assert browser.problems() == [], browser.problems()


def status_or_none(url):
    try:
        return status(url)
    except urllib.error.URLError:
        return None


def test_logs(env):
    cluster, browser = env.cluster(), env.browser
    browser.open(page(cluster))
    browser.wait(lambda: "slot" in browser.text("#taskmanagers"), 10, "the taskmanager")
    browser.click("button", "Log of the jobmanager")
    browser.wait(lambda: "Rest endpoint listening" in browser.text("dialog pre"), 10, "the jobmanager's log")
    browser.click("dialog button", "Close")
    browser.click("td button", "Log")
    browser.wait(lambda: "Log of taskmanager" in browser.text("dialog h2") and len(browser.text("dialog pre")) > 100, 10, "a taskmanager's log")
    env.screenshot(whole=False)
    assert browser.problems() == [], browser.problems()
