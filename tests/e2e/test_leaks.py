"""Many jobs come and go: the daemons' memory and descriptors stay where they were, and no process or file is left."""

import os

JOBS = int(os.environ.get("LEAK_JOBS", "100"))


def footprint(pid):
    with open(f"/proc/{pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return rss, len(os.listdir(f"/proc/{pid}/fd"))


def test_submitted_and_cancelled(env):
    kafka = env.kafka()
    cluster = env.cluster(1, slots=2, config={"jobstore.max-capacity": 20})
    args = ["--bootstrap.servers", kafka.bootstrap, "--input-topic", env.topic("in"), "--output-topic", env.topic("out"), "--checkpointing"]
    program = env.program("ClickCountJob.so")

    def once():
        job = cluster.run("-p", "2", program, *args)
        cluster.wait_running(job)
        cluster.flink("cancel", job)
        cluster.wait_state(job, "CANCELED")

    # The archive of ended jobs fills first; what is measured is whether it goes on growing.
    for _ in range(30):
        once()
    before = {name: footprint(p.pid) for name, p in (("jobmanager", cluster.jobmanager), ("taskmanager", cluster.taskmanagers[0]))}
    for _ in range(JOBS):
        once()
    cluster.wait(lambda: not cluster.runners(), 10, "the last runner to end")
    for name, process in (("jobmanager", cluster.jobmanager), ("taskmanager", cluster.taskmanagers[0])):
        rss, descriptors = footprint(process.pid)
        assert descriptors <= before[name][1] + 2, f"{name}: {before[name][1]} descriptors before, {descriptors} after {JOBS} jobs"
        assert rss <= before[name][0] + 1024 + 4 * JOBS, f"{name}: {before[name][0]} KiB before, {rss} KiB after {JOBS} jobs"
    assert cluster.get("/overview")["slots-available"] == 2
    assert cluster.get("/jars")["files"] == []
