"""``python -m pytest_ablation``: hands the command line to cli.py."""

import os
import sys

from pytest_ablation.cli import main

try:
    status = main()
    sys.stdout.flush()
except BrokenPipeError:  # the reader, such as head, has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's flush at exit
    status = 1
except KeyboardInterrupt:
    status = 128 + 2  # as a shell has it, of SIGINT
sys.exit(status)
