"""Published Java packages, fetched once with Maven into the tests' cache (MILLRACE_TEST_CACHE, or build/test-cache)."""

import fcntl
import os
import shutil
import subprocess
import time

CACHE = os.path.abspath(os.environ.get("MILLRACE_TEST_CACHE") or os.path.join(os.path.dirname(__file__), "..", "..", "build", "test-cache"))
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>millrace.test</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
{dependencies}
</dependencies></project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
ATTEMPTS = 3


def fetch(name, version, artifacts, jars="", complete=None):
    """Path of a folder that holds (in its folder `jars`) the artifacts ("group:artifact:version") and all that they need. complete(folder)
    does what else is to be done once. Of several processes that want it, one fetches and the others wait."""
    folder = os.path.join(CACHE, f"{name}-{version}")
    os.makedirs(CACHE, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, ".complete")):
            work = folder + ".tmp"
            shutil.rmtree(work, ignore_errors=True)
            os.makedirs(work)
            _run_maven(name, version, artifacts, work, os.path.join(work, jars))
            if complete is not None:
                complete(work)
            open(os.path.join(work, ".complete"), "w").close()
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(work, folder)
    return folder


def _run_maven(name, version, artifacts, work, target):
    pom = os.path.join(work, "pom.xml")
    with open(pom, "w") as f:
        f.write(POM.format(name=name, dependencies="\n".join(DEPENDENCY.format(*artifact.split(":")) for artifact in artifacts)))
    print(f"Fetching {name} {version} with Maven", flush=True)
    for attempt in range(ATTEMPTS):
        time.sleep(2 * attempt)
        if subprocess.run(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={target}"], cwd=work).returncode == 0:
            os.unlink(pom)
            return
    raise RuntimeError(f"Maven could not fetch {name} {version} in {ATTEMPTS} attempts: {' '.join(artifacts)}")
