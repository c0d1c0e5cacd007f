"""Loads the plugin from this checkout, and adds the option that only our studies need."""

import os

import pytest

pytest_plugins = ["pytest_ablation.plugin"]

ENCODER_OPTION = "--ablation-encoder"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("ablation").addoption(
        ENCODER_OPTION,
        metavar="DIR_OR_NAME",
        help="pretrained encoder of the bi-encoder study [the packaged MiniLM]",
    )


def pytest_configure(config: pytest.Config) -> None:
    encoder = config.getoption(ENCODER_OPTION)
    if encoder:  # the study modules build their configurations when they are imported
        os.environ["ABLATION_ENCODER"] = encoder
