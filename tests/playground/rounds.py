"""Kills of each service, one at a time, at random moments: every window keeps its 1000 clicks a page."""

import random
import time

from .compose import check_results, job_states, results, typed, wait, wait_windows
from .walkthrough import step, wait_running

SERVICES = ("taskmanager", "kafka", "clickevent-generator")


@step(300)
def step_rounds(story):
    """Kill and start again each of taskmanager, kafka and generator, in rounds"""
    chance = random.Random(story.seed)
    for number in range(1, story.rounds + 1):
        for service in SERVICES:
            # Anywhere between two checkpoints, two windows, two batches; and a while of absence.
            time.sleep(chance.uniform(0, 3))
            typed(f"docker-compose kill {service}")
            time.sleep(chance.uniform(0, 4))
            typed("docker-compose up -d --scale taskmanager=2 taskmanager" if service == "taskmanager" else f"docker-compose up -d {service}")
            wait(lambda: job_states().get(story.job) == "RUNNING", 60, f"job {story.job} to be RUNNING again")
            wait_running(story.job, 90)
            windows = wait_windows(2)
            print(f"    round {number}, {service}: {windows} windows, every one right", flush=True)
    check_results(results())
