"""Settings of all tests: neither the machine's speed nor what it caches decides about them."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For this process and those that it starts: no byte code, no repository around.

    Python takes byte code for new by the size of a file and the second of its change: what a test
    changes within that second, to the same length, would seem to be the same. Temporary folders may
    lie in a checkout, the revision of which is none of a test's own.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path_factory.getbasetemp()))
        yield
