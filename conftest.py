"""Loads the plugin from this checkout, and adds the option that only our studies need."""

import os

import pytest

pytest_plugins = ["pytest_ablation.plugin"]

ENCODER_OPTION = "--ablation-encoder"
DATA_OPTION = "--ablation-data"  # the plugin's


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("ablation").addoption(
        ENCODER_OPTION,
        metavar="DIR_OR_NAME",
        help="pretrained encoder of the bi-encoder studies [the packaged MiniLM]",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The study modules build their configurations when they are imported: from the environment.
    if encoder := config.getoption(ENCODER_OPTION):
        os.environ["ABLATION_ENCODER"] = encoder
    if data := config.getoption(DATA_OPTION):
        os.environ["ABLATION_DATA"] = str(config.invocation_params.dir / data)
