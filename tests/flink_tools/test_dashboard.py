"""Flink's web dashboard, as its package has it, in headless Chromium: every page shows what the cluster does, no request fails, and the
console stays quiet. A screenshot of each page is kept."""
import json
import os
import re

from ..support_web.webdriver import Browser

WAIT_S = 90
# A page asks again each 3 s (web.refresh-interval): what it shows grows within a few rounds.
BLUE = "rgb(93, 177, 255)"
# The editor that shows a log has the first lines only in the page.
LOG_LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO +\S+ +\[\] - "


class Context:
    def __init__(self, stage, version, shots):
        self.stage = stage
        self.version = tuple(int(part) for part in version.split(".")[:2])
        self.shots = shots
        self.job = stage.clicks(parallelism=2)
        self.slow = stage.slow()
        self.failed = stage.failed()
        self.canceled = stage.clicks("--output-topic", "other")
        stage.cluster.wait_checkpoint(self.canceled)
        stage.cluster.flink("cancel", self.canceled)
        stage.cluster.wait_checkpoint(self.job, 2)
        self.taskmanager = stage.get("/taskmanagers")["taskmanagers"][0]["id"]
        self.browser = Browser(width=1500, height=1000, log=os.path.join(shots, "chromedriver.log"))
        self.browser.open(stage.url())
        self.shot_count = 0
        self.place = None

    def close(self):
        self.browser.close()

    def running(self, rest=""):
        return f"job/running/{self.job}/{rest}"

    def vertex(self, word, job=None):
        return self.stage.vertex(job or self.job, word)["id"]


# What the dashboard does to itself, whatever the server says: its job graph, left while it still moves into its place, measures an
# element that is no longer on the page.
DASHBOARDS_OWN = ("Failed to read the 'value' property from 'SVGLength': Could not resolve relative length",)


def text_of(browser):
    """The page in one line, fields of input and text areas too."""
    text = browser.script("return document.body.innerText + ' ' + [...document.querySelectorAll('textarea, input')].map(e => e.value).join(' ')")
    return re.sub(r"\s+", " ", text)


def shoot(context, name):
    context.shot_count += 1
    context.browser.screenshot(os.path.join(context.shots, f"{context.shot_count:02d}-{name}.png"), whole=False)


def see(context, name, *patterns):
    """Waits until the page shows every pattern, takes its picture, and looks for failed requests and console messages."""
    browser = context.browser
    for pattern in patterns:
        try:
            browser.wait(lambda: re.search(pattern, text_of(browser)), WAIT_S, f"/{pattern}/")
        except AssertionError:
            shoot(context, name + "-failed")
            raise
    shoot(context, name)
    problems = [problem for problem in browser.problems() if not any(words in problem for words in DASHBOARDS_OWN)]
    assert problems == [], f"{name}: {problems}"
    assert "Server Response Message:" not in text_of(browser), f"{name}: the server sent a message: {text_of(browser)[-500:]}"


def visit(context, page, name, *patterns):
    """Within a job as links do, without loading the page anew. The page itself mixes up two jobs when an address leads from
    one into the other, which no link of it does."""
    browser = context.browser
    place = "/".join(page.split("/")[:3]) if page.startswith("job/") else page.split("/")[0]
    if place != context.place or "Server Response Message:" in text_of(browser):
        browser.open("about:blank")
        context.place = place
    browser.forget()
    browser.open(context.stage.url(f"#/{page}"))
    see(context, name, *patterns)


def click_text(context, css, text):
    """Clicks the last element (of tabs, the innermost ones) that css selects and whose text is exactly text."""
    found = context.browser.script("""
        const all = [...document.querySelectorAll(arguments[0])];
        const e = all.filter(e => e.offsetParent !== null && e.innerText.trim() === arguments[1]).pop();
        if (e) e.click();
        return !!e;""", css, text)
    assert found, f"there is no {css} that says {text!r}: {text_of(context.browser)[:1500]}"


def watermarks_are_there(context):
    vertex = context.vertex("Counter")
    context.stage.wait(lambda: all(int(w["value"]) > 0 for w in context.stage.get(f"/jobs/{context.job}/vertices/{vertex}/watermarks")), 30,
                       "watermarks at both counters")


def test_overview(context):
    total = context.stage.get("/overview")["slots-total"]
    visit(context, "overview", "overview", rf"Total Task Slots ?{total}", r"Task Managers ?1", r"Running (Jobs|Applications) 2", r"Failed ?1",
          r"Click Event Count .*RUNNING", r"Click Event Count .*CANCELED", r"FAILED")


def test_lists_of_jobs(context):
    visit(context, "job/running", "jobs-running", r"Click Event Count \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*RUNNING")
    visit(context, "job/completed", "jobs-completed", r"Click Event Count.*CANCELED", r"FAILED")
    assert context.browser.script("return [...document.querySelectorAll('a, tr')].length") > 2


def test_job_graph(context):
    watermarks_are_there(context)
    visit(context, context.running("overview"), "job-graph", f"Job ID {context.job}", r"Source: ClickEvent Source", r"ClickEvent Counter",
          r"ClickEventStatistics Sink: Writer", r"Parallelism: 2", r"HASH", r"Backpressured \(max\): \d+%", r"Busy \(max\): \d+%",
          r"Low Watermark: \d{2,}", r"Records Received", r"RUNNING 8|8 RUNNING|RUNNING")


def colors(context):
    return context.browser.script("return [...document.querySelectorAll('.node-label-wrapper')].map(e => [e.innerText, e.style.backgroundColor])")


def test_back_pressure_has_colours(context):
    context.stage.wait(lambda: context.stage.get(f"/jobs/{context.slow}/vertices/{context.vertex('Rows', context.slow)}/backpressure")
                       .get("backpressure-level") == "high", 30, "back pressure")
    visit(context, f"job/running/{context.slow}/overview", "back-pressure-graph", r"Backpressured \(max\): ([5-9]\d|100)%",
          r"Busy \(max\): (9\d|100)%")
    shown = {text.strip().splitlines()[0]: color for text, color in colors(context)}
    source = next(color for name, color in shown.items() if "Rows" in name)
    slow = next(color for name, color in shown.items() if "Slow" in name)
    assert source != BLUE and slow != BLUE and source != slow, f"colours of the boxes: {shown}"
    visit(context, f"job/running/{context.slow}/overview/{context.vertex('Rows', context.slow)}/backpressure", "back-pressure-high",
          r"Back Pressure Status: HIGH", r"HIGH")


def test_vertex_tabs(context):
    tab = context.running(f"overview/{context.vertex('Counter')}/")
    visit(context, tab + "detail", "vertex-detail", r"Window\(TumblingEventTimeWindows", r"Max Parallelism ?128", r"Records Received [\d,]{2,}")
    visit(context, tab + "subtasks", "vertex-subtasks", r"Subtask Metrics", r"0 [\d.]+ [KM]?B [\d,]+", r"127\.0\.0\.1", r"RUNNING")
    click_text(context, "div", "Aggregated Metrics")
    see(context, "vertex-subtasks-aggregated", r"\bMin\b", r"\bMedian\b")
    visit(context, tab + "taskmanagers", "vertex-taskmanagers", r"127\.0\.0\.1\S* [\d.]+ [KM]?B [\d,]+", r"RUNNING")
    visit(context, tab + "watermarks", "vertex-watermarks", r"SubTask Watermark", r"0 \d{2,}", r"1 \d{2,}")
    visit(context, tab + "accumulators", "vertex-accumulators", r"Vertex Accumulators", r"No Data")
    visit(context, tab + "backpressure", "vertex-backpressure", r"Back Pressure Status: OK", r"0 \d+% \d+% \d+% OK")


def test_vertex_metrics(context):
    visit(context, context.running(f"overview/{context.vertex('Counter')}/metrics"), "vertex-metrics", r"Add Metric")
    browser = context.browser
    browser.script("""const e = document.querySelector('flink-job-overview-drawer-chart nz-select, nz-select');
                      (e.querySelector('.ant-select-selector') || e).dispatchEvent(new MouseEvent('click', {bubbles: true}))""")
    browser.wait(lambda: browser.texts("nz-option-item"), WAIT_S, "names of metrics")
    browser.script("document.querySelector('.ant-select-open input').value = 'numRecordsIn';"
                   "document.querySelector('.ant-select-open input').dispatchEvent(new Event('input', {bubbles: true}))")
    browser.wait(lambda: "0.numRecordsIn" in browser.texts("nz-option-item"), WAIT_S, "0.numRecordsIn among the metrics")
    click_text(context, "nz-option-item", "0.numRecordsIn")
    browser.wait(lambda: browser.find("canvas"), WAIT_S, "a chart")
    see(context, "vertex-metrics-chart", r"0\.numRecordsIn")


def test_flame_graph(context):
    tab = f"job/running/{context.slow}/overview/{context.vertex('Slow', context.slow)}/flamegraph"
    visit(context, tab, "flame-graph", r"FlameGraph", r"Measurement: \d+")
    browser = context.browser
    for kind, name in (("Off-CPU", "flame-graph-off-cpu"), ("Mixed", "flame-graph-mixed")):
        click_text(context, "label", kind)
        browser.wait(lambda: "task_run (task-runner)" in browser.script("return document.body.textContent"), WAIT_S, "functions in the flame graph")
        see(context, name, r"Measurement: \d+")
    path = f"/jobs/{context.slow}/vertices/{context.vertex('Slow', context.slow)}/flamegraph"
    graph = context.stage.get(path + "?type=full")["data"]
    assert graph["value"] >= 20 and "slow" in json.dumps(graph).lower(), f"the samples miss the slow function: {graph}"


def test_checkpoints(context):
    visit(context, context.running("checkpoints"), "checkpoints", r"Triggered: \d+", r"Completed: [1-9]\d*", r"Failed: 0",
          r"Latest Completed Checkpoint ID: \d+", r"Path: file:/\S+/chk-\d+", r"aligned checkpoint", r"ClickEvent Counter 2/2 \(100%\)")
    click_text(context, "div", "History")
    see(context, "checkpoints-history", r"\d+ COMPLETED 8/8", r"Trigger Time")
    browser = context.browser
    expand = "const e = [...document.querySelectorAll('.ant-table-row-expand-icon, button.ant-table-row-expand-icon')]" \
             ".filter(e => e.offsetParent !== null && !/expanded/.test(e.className))[0]; if (e) e.click(); return !!e"
    assert browser.script(expand), "no checkpoint can be opened"
    see(context, "checkpoints-details", r"Checkpoint Detail: ?Path: file:/\S+/chk-\d+", r"ClickEvent Counter 2/2 \(100%\)")
    assert browser.script(expand), "no operator can be opened"
    see(context, "checkpoints-subtasks", r"Minimum", r"Average", r"Sync Duration", r"Alignment Duration", r"Start Delay", r"COMPLETED")
    click_text(context, "div", "Summary")
    see(context, "checkpoints-summary", r"Minimum \S+", r"Average \S+", r"Maximum", r"End to End Duration", r"Checkpointed Data Size")
    click_text(context, "div", "Configuration")
    see(context, "checkpoints-configuration", r"Checkpointing Mode Exactly Once", r"Interval 1s", r"Maximum Concurrent Checkpoints 1")


def test_timeline(context):
    visit(context, context.running("timeline"), "timeline", r"Vertex TimeLine")
    context.browser.wait(lambda: context.browser.find("canvas, svg"), WAIT_S, "the time line")


def test_exceptions(context):
    visit(context, context.running("exceptions"), "exceptions-none", r"No Root Exception")
    visit(context, f"job/completed/{context.failed}/exceptions", "exceptions", r"this row is not to my taste")
    click_text(context, "div", "Exception History")
    see(context, "exceptions-history", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", r"127\.0\.0\.1:\d+")


def test_configuration(context):
    visit(context, context.running("configuration"), "job-configuration", r"Job parallelism 2", r"Max. number of execution retries")


def test_completed_job(context):
    completed = f"job/completed/{context.canceled}/"
    visit(context, completed + "overview", "completed-overview", r"CANCELED", r"ClickEvent Counter")
    visit(context, completed + "checkpoints", "completed-checkpoints", r"Completed: [1-9]\d*")
    visit(context, completed + "timeline", "completed-timeline", r"Vertex TimeLine")
    visit(context, completed + "configuration", "completed-configuration", r"Job parallelism 1")
    visit(context, f"job/completed/{context.failed}/overview", "failed-overview", r"FAILED")


def test_taskmanagers(context):
    base = f"task-manager/{context.taskmanager}/"
    visit(context, "task-manager", "taskmanagers", re.escape(context.taskmanager), r"Free Slots", r"GB")
    visit(context, base + "metrics", "taskmanager-metrics", r"Free/All Slots \d / 8", r"Flink Memory Model", r"Heap [\d.]+ [KM]B",
          r"Allocated slots", context.job)
    visit(context, base + "logs", "taskmanager-log", LOG_LINE)
    visit(context, base + "stdout", "taskmanager-stdout", r"Stdout")
    visit(context, base + "log-list", "taskmanager-log-list", r"\.log \d{4}-\d\d-\d\d")
    name = next(text for text in context.browser.texts("td a") if text.endswith(".log"))
    click_text(context, "td a", name)
    see(context, "taskmanager-log-file", LOG_LINE)


def test_taskmanager_threads(context):
    visit(context, f"task-manager/{context.taskmanager}/thread-dump", "taskmanager-thread-dump", r'"taskmanager" Id=\d+', r"\bat \S+")
    dump = context.stage.get(f"/taskmanagers/{context.taskmanager}/thread-dump")["threadInfos"]
    text = "\n".join(info["stringifiedThreadInfo"] for info in dump)
    assert "task_run" in text and "Counter (1/2)" in text, f"no task thread with its stack:\n{text[:3000]}"


def test_profilers(context):
    if context.version < (1, 19):
        return  # it has no such tabs
    visit(context, f"task-manager/{context.taskmanager}/profiler", "taskmanager-profiler", r"Profiling Duration", r"No Data")
    visit(context, "job-manager/profiler", "jobmanager-profiler", r"Profiling Duration", r"No Data")


def test_jobmanager(context):
    visit(context, "job-manager/metrics", "jobmanager-metrics", r"Flink Memory Model", r"Heap [\d.]+ [KM]B")
    visit(context, "job-manager/config", "jobmanager-configuration", r"web\.ui\.dir /", r"jobmanager\.rpc\.port \d+", r"version Millrace")
    visit(context, "job-manager/logs", "jobmanager-log", LOG_LINE)
    visit(context, "job-manager/stdout", "jobmanager-stdout", r"Stdout")
    visit(context, "job-manager/log", "jobmanager-log-list", r"\.log \d{4}-\d\d-\d\d")
    name = next(text for text in context.browser.texts("td a") if text.endswith(".log"))
    click_text(context, "td a", name)
    see(context, "jobmanager-log-file", LOG_LINE)
    visit(context, "job-manager/thread-dump", "jobmanager-thread-dump", r'"jobmanager" Id=\d+', r"\bat \S+")


QUESTION = ".ant-popover-buttons button, .ant-modal-confirm-btns button, .ant-popconfirm-buttons button"


def fill(context, placeholder, text):
    found = context.browser.script("""
        const e = [...document.querySelectorAll('input')].find(e => e.placeholder === arguments[0] && e.offsetParent !== null);
        if (!e) return false;
        e.value = arguments[1];
        e.dispatchEvent(new Event('input', {bubbles: true}));
        return true;""", placeholder, text)
    assert found, f"there is no field {placeholder!r}"


def test_submit_and_cancel(context):
    """Uploads a program, looks at its plan, starts it, and cancels it, all with the page's own buttons."""
    stage, browser = context.stage, context.browser
    visit(context, "submit", "submit", r"Add New")
    browser.type("input[type=file]", stage.program())
    see(context, "submit-uploaded", r"ClickCountJob\.so \d{4}-\d\d-\d\d")
    browser.script("document.querySelector('tr.clickable').click()")
    browser.wait(lambda: browser.find("input[placeholder=Parallelism]"), WAIT_S, "the form")
    fill(context, "Program Arguments", f"--bootstrap.servers {stage.kafka.bootstrap} --checkpointing --event-time --output-topic submitted")
    fill(context, "Parallelism", "1")
    click_text(context, "button", "Show Plan")
    see(context, "submit-plan", r"Plan Visualization", r"Parallelism: 1", r"HASH", r"Source: ClickEvent Source")
    browser.script("const e = [...document.querySelectorAll('.ant-drawer-close')].find(e => e.offsetParent !== null); if (e) e.click()")
    before = {job["jid"] for job in stage.get("/jobs/overview")["jobs"]}
    click_text(context, "button", "Submit")
    stage.wait(lambda: {job["jid"] for job in stage.get("/jobs/overview")["jobs"]} - before, WAIT_S, "the submitted job")
    job = ({job["jid"] for job in stage.get("/jobs/overview")["jobs"]} - before).pop()
    stage.cluster.wait_running(job)
    see(context, "submitted-job", f"Job ID {job}", r"RUNNING")
    click_text(context, "a, button", "Cancel Job")
    browser.wait(lambda: browser.find(QUESTION), WAIT_S, "the question")
    click_text(context, QUESTION, "Yes")
    stage.cluster.wait_state(job, "CANCELED")
    visit(context, f"job/completed/{job}/overview", "submitted-job-canceled", r"CANCELED")
    visit(context, "submit", "submit-again", r"ClickCountJob\.so")
    click_text(context, "td a", "Delete")
    browser.wait(lambda: browser.find(QUESTION), WAIT_S, "the question")
    browser.script("[...document.querySelectorAll(arguments[0])].pop().click()", QUESTION)
    stage.wait(lambda: stage.get("/jars")["files"] == [], WAIT_S, "the program to be deleted")
    see(context, "submit-deleted", r"No Data")


def test_links_into_the_page_work(context):
    """What a colleague sends: an address within the page, opened afresh."""
    context.browser.forget()
    context.browser.open("about:blank")
    context.browser.open(context.stage.url(f"#/{context.running('checkpoints')}"))
    see(context, "deep-link", r"Latest Completed Checkpoint ID: \d+")
