"""``python -m pytest_ablation``: hands the command line to cli.py."""

import sys

from pytest_ablation.cli import main

sys.exit(main())
