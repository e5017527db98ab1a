"""The walkthrough: what a person who follows Flink's operations playground types, word for word, and what must come out."""

import json
import os
import re
import subprocess

from .compose import (Failure, check_results, complete, container, job_states, logs, parse_results, rest, rest_port, results, tasks, typed,
                      wait, wait_windows)

RUN_SO = "flink run -d -s {} /opt/ClickCountJob.so --bootstrap.servers kafka:9092 --checkpointing --event-time"
RUN_JAR = "flink run -d -p 3 -s {} /opt/ClickCountJob.jar --bootstrap.servers kafka:9092 --checkpointing --event-time"
CLIENT = "docker-compose run --no-deps client "
IMAGE_MAX_BYTES = 80_000_000


class Story:
    """What one step leaves for the next."""

    def __init__(self, images, rounds, seed):
        self.images = images
        self.rounds = rounds
        self.seed = seed
        self.job = None
        self.savepoint = None


def step(order, is_always=False):
    def mark(function):
        function.order, function.is_always = order, is_always
        return function
    return mark


def expect(pattern, text, what):
    found = re.search(pattern, text, re.M)
    if found is None:
        raise Failure(f"{what}: expected /{pattern}/ in\n{text}")
    return found


def wait_running(job, timeout=60):
    wait(lambda: job_states().get(job) == "RUNNING" and tasks(job, "running"), timeout, f"job {job} to run")


@step(10, is_always=True)
def step_up(story):
    """docker-compose up -d alone brings the cluster up, with the job submitted."""
    typed("docker-compose up -d", timeout=1200)
    states = wait(job_states, 30, "a job")
    if len(states) != 1:
        raise Failure(f"expected one job, there are {states}")
    story.job = next(iter(states))
    wait_running(story.job)
    for service in ("jobmanager", "kafka", "taskmanager", "clickevent-generator"):
        wait(lambda: health(service) == "healthy", 30, f"{service} to be healthy")


def health(service):
    ids = container(service)
    if not ids:
        raise Failure(f"there is no container of {service}")
    done = subprocess.run(["docker", "inspect", "-f", "{{.State.Health.Status}}", ids[0]], capture_output=True, text=True)
    return done.stdout.strip()


@step(20)
def step_image(story):
    """The image is small, runs as nobody special, has no compiler, and both names of the job."""
    def size(image):
        return int(subprocess.run(["docker", "image", "inspect", "-f", "{{.Size}}", image], capture_output=True, text=True, check=True).stdout)
    over_base = size("millrace:latest") - size("debian:bookworm-slim")
    print(f"    {over_base / 1e6:.1f} MB on top of the base image")
    if over_base > IMAGE_MAX_BYTES:
        raise Failure(f"the image is {over_base} bytes larger than its base, allowed are {IMAGE_MAX_BYTES}")
    out = typed(CLIENT + "sh -c 'id -u; cmp /opt/ClickCountJob.so /opt/ClickCountJob.jar && echo same; "
                "which cc gcc c99 g++ clang tcc as ld make; echo end'")
    lines = out.split("done\n")[-1].split()
    if lines[0] == "0" or lines[1:] != ["same", "end"]:
        raise Failure(f"expected a user id other than 0, the same file twice, and no compiler:\n{out}")


@step(30)
def step_list(story):
    """flink list"""
    out = typed("docker-compose run --no-deps client flink list")
    expect(r"^-+ Running/Restarting Jobs -+$", out, "the list's headline")
    expect(rf"^\d\d\.\d\d\.\d{{4}} \d\d:\d\d:\d\d : {story.job} : Click Event Count \(RUNNING\)$", out, "the job's line")
    expect(r"^No scheduled jobs\.$", out, "the scheduled jobs")


@step(40)
def step_curl(story):
    """curl jobmanager:8081/jobs, from the client and from outside"""
    expected = f'{{"jobs":[{{"id":"{story.job}","status":"RUNNING"}}]}}'
    for command in ("docker-compose run --no-deps client curl jobmanager:8081/jobs", f"curl localhost:{rest_port()}/jobs"):
        out = typed(command)
        if expected not in out:
            raise Failure(f"{command} printed\n{out}\nnot\n{expected}")


@step(50)
def step_topics(story):
    """The topics, read with Kafka's console consumer"""
    out = typed("docker-compose exec kafka kafka-console-consumer.sh --bootstrap-server kafka:9092 --topic input --max-messages 12")
    clicks = re.findall(r'^\{"timestamp":"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d:\d{3}","page":"(/\w+)"\}$', out, re.M)
    if len(clicks) != 12:
        raise Failure(f"expected 12 click events:\n{out}")
    wait_windows(1)
    out = typed("docker-compose exec kafka kafka-console-consumer.sh --bootstrap-server kafka:9092 --topic output --from-beginning "
                "--max-messages 6")
    counts = [count for pages in parse_results(out).values() for repeated in pages.values() for count in repeated]
    if counts != [1000] * 6:
        raise Failure(f"expected six counts of 1000:\n{out}")


@step(60)
def step_up_again(story):
    """A client that is started again submits nothing"""
    typed("docker-compose up -d")
    wait(lambda: "knows \"Click Event Count\" already" in logs("client"), 30, "the client to say that it submits nothing")
    if job_states() != {story.job: "RUNNING"}:
        raise Failure(f"expected only job {story.job}, there are {job_states()}")


@step(70)
def step_kill_taskmanager(story):
    """docker-compose kill taskmanager: the job waits for a slot, and the log says so"""
    typed("docker-compose kill taskmanager")
    wait(lambda: tasks(story.job, "scheduled"), 30, "the tasks to be scheduled")
    out = typed("docker-compose run --no-deps client flink list")
    expect(rf"{story.job} : Click Event Count \((RUNNING|RESTARTING)\)", out, "the job's line")
    log = logs("jobmanager")
    for pattern in (rf"Job Click Event Count \({story.job}\) switched from state RUNNING to RESTARTING\.",
                    r"Source: ClickEvent Source \(1/1\) \(\w+_\w+_0_1\) switched from CREATED to SCHEDULED\.",
                    r"ClickEventStatistics Sink: Committer \(1/1\) \(\w+_\w+_0_1\) switched from CREATED to SCHEDULED\.",
                    rf"Received resource requirements from job {story.job}: \[ResourceRequirement\{{resourceProfile=ResourceProfile\{{UNKNOWN\}}, "
                    r"numberOfRequiredSlots=1\}\]"):
        expect(pattern, log, "the jobmanager's log")


@step(80)
def step_recover(story):
    """docker-compose up -d taskmanager: the job goes on, nothing is lost"""
    typed("docker-compose up -d taskmanager")
    wait_running(story.job)
    wait_windows(2)
    expect(rf"Restoring job {story.job} from Checkpoint \d+ @", logs("jobmanager"), "the jobmanager's log")


@step(90)
def step_stop(story):
    """Stop with a savepoint, typed in the client"""
    out = typed(f"docker-compose run --no-deps client curl jobmanager:8081/jobs/{story.job}/stop -d '{{\"drain\": false}}'")
    request = expect(r'\{"request-id":"([0-9a-f]{32})"\}', out, "the answer to stop").group(1)
    story.savepoint = wait_savepoint(story.job, request)
    wait(lambda: job_states()[story.job] == "FINISHED", 30, "the job to be FINISHED")


def wait_savepoint(job, request):
    def done():
        out = typed(f"docker-compose run --no-deps client curl jobmanager:8081/jobs/{job}/savepoints/{request}")
        answer = json.loads(expect(r"\{.*\}", out, "the savepoint's state").group(0))
        return answer["operation"]["location"] if answer["status"]["id"] == "COMPLETED" else None
    return wait(done, 60, f"savepoint {request}")


@step(100)
def step_resume(story):
    """flink run -d -s <savepoint> goes on where the job stopped"""
    before = check_results(results())
    story.job = submit(CLIENT + RUN_SO.format(story.savepoint))
    wait_windows(2)
    repeated = [start for start, pages in results().items() if any(len(counts) > 1 for counts in pages.values()) and start >= before * 15]
    if repeated:
        raise Failure(f"windows {repeated} were written twice after a savepoint")


def submit(command):
    out = typed(command)
    job = expect(r"Job has been submitted with JobID ([0-9a-f]{32})", out, "flink run").group(1)
    wait_running(job)
    return job


@step(110)
def step_rescale(story):
    """Stop from outside, and resume with -p 3 on two taskmanagers"""
    out = typed(f"curl localhost:{rest_port()}/jobs/{story.job}/stop -d '{{\"drain\": false}}'")
    request = expect(r'\{"request-id":"([0-9a-f]{32})"\}', out, "the answer to stop").group(1)
    story.savepoint = wait_savepoint(story.job, request)
    typed("docker-compose up -d --scale taskmanager=2")
    wait(lambda: rest("/overview")["slots-total"] == 4, 30, "four slots")
    story.job = submit(CLIENT + RUN_JAR.format(story.savepoint))
    vertices = rest(f"/jobs/{story.job}")["vertices"]
    if any(vertex["parallelism"] != 3 for vertex in vertices):
        raise Failure(f"expected parallelism 3: {vertices}")
    out = typed("docker-compose run --no-deps client flink list -a")
    if len(re.findall(r"Click Event Count \(FINISHED\)", out)) != 2 or len(re.findall(r"Click Event Count \(RUNNING\)", out)) != 1:
        raise Failure(f"expected two finished jobs and a running one:\n{out}")
    wait_windows(2)


@step(400)
def step_orderly_stop(story):
    """docker-compose stop reaches the programs themselves: they end by themselves, with status 0"""
    typed("docker-compose stop -t 20 clickevent-generator taskmanager")
    for service in ("clickevent-generator", "taskmanager"):
        for one in subprocess.run(["docker-compose", "ps", "-aq", service], cwd=os.getcwd(), capture_output=True, text=True).stdout.split():
            code = subprocess.run(["docker", "inspect", "-f", "{{.State.ExitCode}}", one], capture_output=True, text=True).stdout.strip()
            if code != "0":
                raise Failure(f"{service} ended with {code} when it was stopped")
    typed("docker-compose up -d --scale taskmanager=2")
    wait_running(story.job)
    wait_windows(1)


@step(410)
def step_jobmanager(story):
    """A jobmanager that was killed forgets its jobs; docker-compose up -d submits the job afresh, and the counts are right"""
    typed("docker-compose kill jobmanager")
    typed("docker-compose up -d")
    states = wait(job_states, 60, "a job")
    if len(states) != 1 or story.job in states:
        raise Failure(f"expected one new job, there are {states}")
    story.job = next(iter(states))
    windows = complete(results())
    wait_running(story.job)
    wait(lambda: complete(results()) > windows, 120, "a new window")
    wait(lambda: len(results()[0]["/help"]) >= 2, 60, "the first window once more")
    check_results(results())


@step(900, is_always=True)
def step_down(story):
    """docker-compose down -v leaves nothing"""
    # Compose v2 keeps what `run` left, unless it is told.
    version = subprocess.run(["docker-compose", "version", "--short"], capture_output=True, text=True, check=True).stdout
    more = "" if version.startswith("1.") else " --remove-orphans"
    typed("docker-compose --profile mysql --profile elasticsearch --profile prometheus --profile grafana down -v" + more, timeout=180)
    project = os.environ["COMPOSE_PROJECT_NAME"]
    label = f"label=com.docker.compose.project={project}"
    for command in (["docker", "ps", "-aq", "--filter", label], ["docker", "volume", "ls", "-q", "--filter", label],
                    ["docker", "network", "ls", "-q", "--filter", label]):
        left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        if left:
            raise Failure(f"{' '.join(command)} still lists {left}")
    if story.images.daemon.is_own:
        for command in (["docker", "ps", "-aq"], ["docker", "volume", "ls", "-q"]):
            left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            if left:
                raise Failure(f"{' '.join(command)} still lists {left}")
