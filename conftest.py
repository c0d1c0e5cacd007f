"""Loads the plugin from this checkout, and adds the options that only our studies need."""

import os

import pytest

pytest_plugins = ["pytest_ablation.plugin"]

ENCODER_OPTION = "--ablation-encoder"
AG_NEWS_OPTION = "--ablation-ag-news"
DATA_OPTION = "--ablation-data"  # the plugin's


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ablation")
    group.addoption(
        ENCODER_OPTION,
        metavar="DIR_OR_NAME",
        help="pretrained encoder of the bi-encoder studies [the packaged MiniLM]",
    )
    group.addoption(
        AG_NEWS_OPTION,
        choices=["hub"],
        help="hub: AG News by the package datasets, for the classifier studies [from "
        f"{DATA_OPTION}, where it holds ag_news_csv]",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The study modules build their configurations when they are imported: from the environment.
    if encoder := config.getoption(ENCODER_OPTION):
        os.environ["ABLATION_ENCODER"] = encoder
    if ag_news := config.getoption(AG_NEWS_OPTION):
        os.environ["ABLATION_AG_NEWS"] = ag_news
    if data := config.getoption(DATA_OPTION):
        os.environ["ABLATION_DATA"] = str(config.invocation_params.dir / data)
