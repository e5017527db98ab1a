"""Flink's published Java packages: the command line and the dashboard's files, fetched once with Maven into the tests' cache."""
import os
import shutil
import subprocess
import time
import zipfile

from ..support_py import packages

DEFAULT_VERSION = "1.20.1"
# Flink 1.x opens its classes' fields by reflection; its own start script passes the same.
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.util=ALL-UNNAMED",
        "--add-opens=java.base/java.lang=ALL-UNNAMED"]
# Reads its arguments as a program would, and submits a job from whatever version's API is there.
PROGRAM = """public class Submitted {
    public static void main(String[] args) throws Exception {
        org.apache.flink.streaming.api.environment.StreamExecutionEnvironment env =
            org.apache.flink.streaming.api.environment.StreamExecutionEnvironment.getExecutionEnvironment();
        env.fromData(1, 2, 3).print();
        env.execute("Submitted");
    }
}
"""


def unpack_web(home, version):
    with zipfile.ZipFile(os.path.join(home, "lib", f"flink-runtime-web-{version}.jar")) as jar:
        for entry in jar.infolist():
            if entry.filename.startswith("web/") and not entry.is_dir():
                path = os.path.join(home, entry.filename)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:
                    f.write(jar.read(entry))


def install(version):
    """Path of the folder with lib/*.jar and web/ of that version."""
    return packages.fetch("flink", version, [f"org.apache.flink:flink-clients:{version}", f"org.apache.flink:flink-runtime-web:{version}",
                                             "org.slf4j:slf4j-reload4j:1.7.36"], jars="lib", complete=lambda home: unpack_web(home, version))


class JavaClient:
    """`flink` of Flink's distribution: the same class with the same configuration."""

    def __init__(self, version, directory, rest_port):
        self.version = version
        self.lib = os.path.join(install(version), "lib")
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        for name in ("config.yaml", "flink-conf.yaml"):  # from 1.19 on the first, before it the second
            with open(os.path.join(directory, name), "w") as f:
                f.write(f"jobmanager.rpc.address: 127.0.0.1\nrest.address: 127.0.0.1\nrest.port: {rest_port}\n")
        with open(os.path.join(directory, "log4j.properties"), "w") as f:
            f.write("log4j.rootLogger=OFF\n")
        self.last_time_s = 0

    def run(self, *args, timeout=120):
        """(exit code, standard output, standard error without stack frames)"""
        started = time.monotonic()
        done = subprocess.run([*JAVA, f"-Dlog4j.configuration=file:{self.directory}/log4j.properties", "-cp", os.path.join(self.lib, "*"),
                               "org.apache.flink.client.cli.CliFrontend", *args],
                              env=dict(os.environ, FLINK_CONF_DIR=self.directory, TZ="UTC"), capture_output=True, text=True, timeout=timeout)
        self.last_time_s = time.monotonic() - started
        frames = ("\tat ", "\t...")
        return done.returncode, done.stdout, "\n".join(line for line in done.stderr.splitlines() if not line.startswith(frames))

    def program(self):
        """Path of a jar with a Java program that submits a job; None where there is no Java compiler."""
        if shutil.which("javac") is None:
            return None
        source = os.path.join(self.directory, "Submitted.java")
        with open(source, "w") as f:
            f.write(PROGRAM if self.version >= "1.19" else PROGRAM.replace("fromData", "fromElements"))
        subprocess.run(["javac", "-nowarn", "-cp", os.path.join(self.lib, "*"), "-d", self.directory, source], check=True, capture_output=True)
        jar = os.path.join(self.directory, "submitted.jar")
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nMain-Class: Submitted\n")
            archive.write(os.path.join(self.directory, "Submitted.class"), "Submitted.class")
        return jar
