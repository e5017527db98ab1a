"""Unit tests that need a real broker: tests/unit/test_kafka*.c skip some of their cases without one."""

import os
import subprocess

from .cluster import BUILD
from ..support_py.suite import takes


@takes(30)
def test_kafka_cases_against_a_real_broker(env):
    for name in ("test_kafka", "test_kafka_transaction"):
        program = os.path.join(BUILD, "tests", name)
        assert os.path.exists(program), f"{program} is missing: make check-e2e builds it"
        result = subprocess.run([program], env={**os.environ, "MILLRACE_TEST_KAFKA": env.kafka().bootstrap},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        assert result.returncode == 0, f"{name} ended with {result.returncode}:\n{result.stdout[-4000:]}"
        assert "skipped:" not in result.stdout, result.stdout
