"""Images for the check: Debian's base by debootstrap, and stand-ins for the public images that cannot be pulled, under their names,
made from the same software's published packages. A public image that is there, or that can be pulled by a daemon that is not ours,
is used as it is."""

import os
import re
import shutil
import subprocess
import tempfile

from ..e2e import kafka
from ..support_py import packages
from .daemon import run

BASE = "debian:bookworm-slim"
OURS = "millrace:latest"
OURS_BEFORE = "millrace:before-check"
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class Images:
    def __init__(self, daemon):
        self.daemon = daemon
        self.stand_ins = []
        self.builds_before = self._builds()

    def _builds(self):
        """What is left of the first stages of our own image: an image without a name for each."""
        return set(run("docker", "image", "ls", "-q", "--no-trunc", "-f", "dangling=true", "-f", "label=millrace.stage=build").stdout.split())

    def is_there(self, name):
        return run("docker", "image", "inspect", name).returncode == 0

    def provide_base(self):
        """Debian without anything else, as the public image has it."""
        if self.is_there(BASE) or self._pull(BASE):
            return
        print(f"Making {BASE} with debootstrap.", flush=True)
        with tempfile.TemporaryDirectory(prefix="millrace-base.", dir="/tmp") as directory:
            root = os.path.join(directory, "root")
            done = run("debootstrap", "--variant=minbase", "bookworm", root)
            if done.returncode != 0:
                raise SystemExit(f"check-playground: debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(os.path.join(root, folder))
                os.makedirs(os.path.join(root, folder, "partial"))
            archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
            subprocess.run(["docker", "import", "-c", 'CMD ["/bin/bash"]', "-", BASE], stdin=archive.stdout, check=True,
                           stdout=subprocess.DEVNULL)
            if archive.wait() != 0:
                raise SystemExit("check-playground: could not pack the base image")
        self.stand_ins.append(BASE)

    def _pull(self, name):
        return not self.daemon.is_own and run("docker", "pull", "-q", name, timeout=900).returncode == 0

    def provide(self, service):
        """The image that docker-compose.yml names for a public service."""
        name = public_image(service)
        context = os.path.join(HERE, "images", service)
        if not self.daemon.is_own and (self.is_there(name) or self._pull(name)):
            return name
        self.provide_base()
        print(f"Building a stand-in for {name}.", flush=True)
        with tempfile.TemporaryDirectory(prefix="millrace-image.", dir="/tmp") as directory:
            build = os.path.join(directory, service)
            shutil.copytree(context, build)
            for folder, packages in jars_of(service).items():
                shutil.copytree(packages, os.path.join(build, folder))
            # Copied files have their original times, so that the layers of an earlier run are found again.
            done = run("docker", "build", "-q", "-t", name, build, env=dict(os.environ, DOCKER_BUILDKIT="0"))
            if done.returncode != 0:
                raise SystemExit(f"check-playground: the stand-in for {name} could not be built:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        self.stand_ins.append(name)
        return name

    def forget_ours(self):
        """`docker-compose up` builds our image only where there is none. The old one keeps its layers under another name, so that those
        that did not change are found again."""
        if self.is_there(OURS):
            run("docker", "tag", OURS, OURS_BEFORE)
            run("docker", "image", "rm", OURS)

    def forget(self):
        """In a store that others use, stand-ins must not stay. In our own they are the cache of the next run, as is the newest build."""
        run("docker", "image", "rm", OURS_BEFORE)
        if not self.daemon.is_own:
            for name in self.stand_ins:
                run("docker", "image", "rm", "-f", name)
        elif self._builds() - self.builds_before:
            for image in self.builds_before:
                run("docker", "image", "rm", image)


def public_image(service):
    """The image of a service in docker-compose.yml."""
    with open(os.path.join(ROOT, "docker-compose.yml")) as f:
        text = f.read()
    found = re.search(rf"^  {service}:\n(?:    .*\n|\n)*?    image: (\S+)", text, re.M)
    if found is None:
        raise SystemExit(f"docker-compose.yml has no image for {service}")
    return found.group(1)


def jars_of(service):
    """{folder in the build context: directory with Java packages}, fetched with Maven on first use."""
    if service == "kafka":
        return {"libs": kafka.install()}
    if service == "elasticsearch":
        version = public_image(service).split(":")[1]
        return {"lib": packages.fetch("elasticsearch", version, [f"org.elasticsearch:elasticsearch:{version}",
                                                                 f"org.elasticsearch.plugin:transport-netty4-client:{version}"])}
    return {}
