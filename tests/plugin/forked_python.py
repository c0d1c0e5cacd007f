"""Runs ``python -m MODULE`` in a process of its own that was forked, not started.

A command line and this process's environment go in, an exit status comes out. A server, which is
this file run as a program, imports once what nearly every session of the plugin imports; each run
is a fork of it and takes a third of what a new interpreter takes. It must import nothing of this
project and no pytest plugin: those each run imports itself, from where it finds them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Not pytest's plugins: pytest warns of a plugin that was imported before it could rewrite it.
IMPORTED = (
    "filelock", "joblib", "matplotlib.backends.backend_agg", "numpy", "pandas", "pytest",
    "scipy.special", "threadpoolctl",
)  # fmt: skip

available = sys.platform == "linux"  # elsewhere fork is missing, or unsafe beside system libraries


def run(arguments: list[str], folder: Path, output: Path, errors: Path) -> int:
    """Run ``python -m`` with these arguments and this process's environment; the exit status.

    *output* and *errors* are files that take the place of the standard streams. The status is as
    ``subprocess`` has it: negative where a signal ended the process.

    Raises
    ------
    RuntimeError
        Where the server has ended. Its own error stands on standard error.
    """
    request = {
        "arguments": arguments, "folder": str(folder), "environment": dict(os.environ),
        "output": str(output), "errors": str(errors),
    }  # fmt: skip
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    if not (status := server.stdout.readline()):
        raise RuntimeError(f"{__file__}, which forks test processes, ended: run the tests again")
    return int(status)


@functools.cache
def _server() -> subprocess.Popen[str]:
    # One thread for the linear algebra: a process with more threads cannot be forked safely.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, __file__]
    server = subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.communicate)  # the end of its input ends it
    return server


def _serve() -> None:
    """Fork for each line of the input, and write how that process ended."""
    sys.path.pop(0)  # this folder: ``python -m`` has the folder it runs in there
    _import_what_sessions_import()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _become(**json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _import_what_sessions_import() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with contextlib.redirect_stdout(io.StringIO()):
        sys.modules["pytest"].main(["--version"])  # imports its own plugins
    gc.freeze()  # so that collecting garbage in a fork does not copy all of this


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], output: str, errors: str
) -> Any:
    """Go on as the interpreter that ``python -m`` starts."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder, *filter(None, paths)]
    sys.argv = arguments
    return runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
