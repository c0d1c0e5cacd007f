"""A reference's file is believed only where it is whole, and says where it is not."""

import copy
import json
import math

import pytest
from told_sessions import make_study, reference_in, write

from pytest_ablation.errors import AblationError
from pytest_ablation.reference import (
    ReferenceError,
    read_reference,
    write_reference,
)
from pytest_ablation.reference_json import SCHEMA_VERSION


def refusal_of(path, words):
    """What reading the file says, which has these words, the file and what to do."""
    with pytest.raises(ReferenceError) as caught:
        read_reference(path)
    told = str(caught.value)
    assert words in told
    assert str(path) in told
    assert "--ablation-save-reference" in told
    assert isinstance(caught.value, AblationError)
    return told


def set_at(*place, value):
    """A change of a file's content: *value* at a place, removed where it is None."""

    def change(content):
        *way, last = place
        for name in way:
            content = content[name]
        if value is REMOVED:
            del content[last]
        else:
            content[last] = value

    return change


REMOVED = object()
STUDY = ("studies", "parts")
ROW = (*STUDY, "rows", "narrow")
RUN = (*ROW, "runs", "0")
BITS = (*RUN, "correct", "top1")
DIGEST = "0" * 32


def moved(place, old, new):
    def change(content):
        for name in place:
            content = content[name]
        content[new] = content.pop(old)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("mode", value="slow"), "mode: expected one of quick, full, found 'slow'"),
        (set_at("mode", value=["quick"]), "mode: expected a text"),
        (set_at("made", value=REMOVED), "it has no 'made'"),
        (set_at("made", "date", value=3), "made / date: expected a text"),
        (set_at("made", "uncommitted", value=1), "expected true, false or null"),
        (set_at("made", "machines", value=[[]]), "made / machines / 0: expected an object"),
        (set_at("made", "machines", value=[{"a": {}}]), "expected a text, a number or null"),
        (set_at("made", "libraries", value={"numpy": 2}), "libraries / numpy: expected a text"),
        (set_at("extra", value=1), "'extra' is not known here"),
        (set_at("studies", value=[]), "studies: expected an object"),
        (moved(("studies",), "parts", "../parts"), "study name '../parts' cannot be used"),
        (moved(("studies",), "parts", "a" * 81), "cannot be used"),
        (moved(("studies",), "parts", "=cmd()"), "cannot be used"),
        (set_at(*STUDY, "metrics", value=[]), "at least one metric"),
        (set_at(*STUDY, "metrics", value=["top1", "top1"]), "stands there twice"),
        (set_at(*STUDY, "metrics", value=[1]), "metric name 1 cannot be used"),
        (set_at(*STUDY, "metrics", value="top1"), "metrics: expected a list"),
        (set_at(*STUDY, "gate_metrics", value=["top9"]), "'top9' is none of the metrics"),
        (set_at(*STUDY, "lower_is_better", value=["top9"]), "'top9' is none of the metrics"),
        (set_at(*STUDY, "margins", "top1", value=REMOVED), "margins: it has no 'top1'"),
        (set_at(*STUDY, "margins", "top1", value=1), "expected a fraction from 0 to below 1"),
        (set_at(*STUDY, "margins", "top1", value=-0.1), "expected a fraction"),
        (set_at(*STUDY, "margins", "top1", value=True), "expected a number, found True"),
        (set_at(*STUDY, "budget", value=[]), "budget: expected an object"),
        (set_at(*STUDY, "not_selected", value=["a b"]), "cannot be used"),
        (moved((*STUDY, "rows"), "wide", "a/b"), "row name 'a/b' cannot be used"),
        (set_at(*STUDY, "rows", "baseline", value=REMOVED), "'baseline', which is not there"),
        (set_at(*ROW, "baseline", value="other"), "'other', which is not there"),
        (set_at(*ROW, "baseline", value=0), "baseline: expected a text"),
        (set_at(*ROW, "status", value="fine"), "expected one of ok,"),
        (set_at(*ROW, "configuration", value="abc"), "expected a digest"),
        (set_at(*ROW, "configuration", value=""), "expected a digest"),
        (set_at(*ROW, "configuration", value=DIGEST + "\n"), "expected a digest"),
        (set_at(*ROW, "data", value=None), "data: expected a text"),
        (set_at(*ROW, "config", value=[1]), "config: expected an object"),
        (set_at(*ROW, "same_as", value="wide"), "'wide' is no earlier row"),
        (set_at(*ROW, "same_as", value="narrow"), "'narrow' is no earlier row"),
        (set_at(*STUDY, "rows", "wide", "same_as", value="also_narrow"), "is no earlier row"),
        (set_at(*ROW, "same_seeds", value=[0]), "has no run of this seed"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[0, 0]), "stands there twice"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[5]), "no run of this seed"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[True]), "an integer of 0"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[0.0]), "an integer of 0"),
        (set_at(*ROW, "runs", value=[]), "runs: expected an object"),
        *((moved((*ROW, "runs"), "0", seed), "a seed is an integer of 0 or more")
          for seed in ("-1", "1.0", "01", "", "x", "\u0663", "1\n", "9" * 100)),
        (set_at(*RUN, "metrics", "loss", value=REMOVED), "metrics: it has no 'loss'"),
        (set_at(*RUN, "metrics", "top3", value=0.5), "'top3' is not known here"),
        (set_at(*RUN, "metrics", "top1", value="0.5"), "expected a number, found '0.5'"),
        (set_at(*RUN, "metrics", "top1", value=None), "expected a number, found None"),
        (set_at(*RUN, "metrics", "top1", value=False), "expected a number, found False"),
        (set_at(*RUN, "metrics", "top1", value=10**400), "one that is too large"),
        (set_at(*RUN, "outcome", value=""), "outcome: expected a digest"),
        (set_at(*RUN, "train_data", value="x"), "train_data: expected a digest"),
        (set_at(*RUN, "evaluation_data", value=7), "evaluation_data: expected a text"),
        (moved((*RUN, "correct"), "top1", "loss"), "none of the metrics that the study's gate"),
        (set_at(*BITS, value=[]), "correct / top1: expected an object"),
        (set_at(*BITS, "examples", value="21"), "an integer of 0 or more"),
        (set_at(*BITS, "examples", value=-1), "an integer of 0 or more"),
        (set_at(*BITS, "examples", value=0), "are not the bits of 0 examples"),
        (set_at(*BITS, "examples", value=25), "3 bytes are not the bits of 25 examples"),
        (set_at(*BITS, "examples", value=10**15), "are not the bits of 1e+15 examples"),
        (set_at(*BITS, "bits", value="////"), "are not the bits of 21 examples"),
        (set_at(*BITS, "bits", value="!!!!"), "it is no base64"),
        (set_at(*BITS, "bits", value="AAA"), "it is no base64"),
        (set_at(*BITS, "bits", value="\u00e4\u00e4\u00e4\u00e4"), "it is no base64"),
        (set_at(*BITS, "bits", value=7), "bits: expected a text"),
        (set_at(*RUN, "metrics", "top1", value=0.99), "its checksum is that of other content"),
        (set_at("checksum", value=DIGEST), "its checksum is that of other content"),
        (set_at("checksum", value=None), "checksum: expected a text"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_by_hand_says_where(reference_text, tmp_path, change, words):
    content = json.loads(reference_text)
    change(content)
    path = write(tmp_path / "quick.json", content)
    assert len(refusal_of(path, words)) < 600


def test_every_change_of_a_study_is_noticed(reference_text, tmp_path):
    """Any number, word or name inside of ``studies``, changed to another of its kind."""
    content = json.loads(reference_text)

    def places(value, way=()):
        if isinstance(value, dict):
            for name, member in value.items():
                yield from places(member, (*way, name))
        elif isinstance(value, list):
            for index, member in enumerate(value):
                yield from places(member, (*way, index))
        else:
            yield way, value

    others = {str: lambda v: v[:-1] + ("a" if v[-1:] != "a" else "b"), int: lambda v: v + 1,
              float: lambda v: math.nextafter(v, 0), type(None): lambda v: "wide"}  # fmt: skip
    found = list(places(content["studies"]))
    assert len(found) > 100
    for way, value in found:
        changed = copy.deepcopy(content)
        set_at("studies", *way, value=others[type(value)](value))(changed)
        with pytest.raises(ReferenceError):
            read_reference(write(tmp_path / "quick.json", changed))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no reference"),
        ("{", "is no reference"),
        ("hello", "is no reference"),
        ("[]", "it names no schema"),
        ("3", "it names no schema"),
        ("{}", "it names no schema"),
        ('{"schema": true}', "it names no schema"),
        ('{"schema": "1"}', "it names no schema"),
        ('{"schema": 1.0}', "it names no schema"),
        ('{"schema": 1}', "it has no 'mode'"),
        ('{"schema": 0}', "an older version of pytest-ablation: it has schema 0, expected 1"),
        ('{"schema": 99}', "a newer version of pytest-ablation: it has schema 99, expected 1"),
        ('{"schema": 1, "schema": 1}', "'schema' stands twice"),
        ('{"schema": NaN}', "NaN is no number of JSON"),
        ('{"schema": -Infinity}', "-Infinity is no number of JSON"),
        ('{"schema": 1e999}', "the number 1e999 is too large"),
        ('{"schema": ' + "9" * 5000 + "}", "is no reference"),
        ("[" * 100_000, "nested more than 40 deep"),
        ('{"a":' * 50 + "1" + "}" * 50, "nested more than 40 deep"),
        ("\ufeff{}", "is no reference"),
        ("<<<<<<< HEAD\n{}", "is no reference"),
    ],
)
def test_a_file_of_something_else_says_what_it_is(tmp_path, content, words):
    path = write(tmp_path / "quick.json", content)
    assert len(refusal_of(path, words)) < 500


def test_two_versions_mixed_by_a_merge_are_noticed(reference, reference_text, tmp_path):
    """A merge takes the lines of one run from theirs, and all else from ours."""
    other = reference_in(tmp_path, make_study(width=17))
    write_reference(tmp_path / "theirs.json", other)
    ours, theirs = reference_text.splitlines(), (tmp_path / "theirs.json").read_text().splitlines()
    assert len(ours) == len(theirs)
    number = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
                  if a != b and '"outcome"' in a)  # fmt: skip
    mixed = [*ours[:number], theirs[number], *ours[number + 1 :]]
    with pytest.raises(ReferenceError, match="two versions of it merged"):
        read_reference(write(tmp_path / "mixed.json", "\n".join(mixed)))
    crlf = write(tmp_path / "crlf.json", reference_text.replace("\n", "\r\n"))  # git on Windows
    assert read_reference(crlf) == reference


def test_bytes_that_are_no_text_and_places_without_a_file(tmp_path):
    path = tmp_path / "quick.json"
    with pytest.raises(ReferenceError, match=r"no reference .*quick\.json: save one with --abl"):
        read_reference(path)
    with pytest.raises(ReferenceError, match=r"no reference .*results\.json"):
        read_reference(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ReferenceError, match="is no reference: 'utf-8' codec"):
        read_reference(path)
    with pytest.raises(ReferenceError, match="there is no reference"):
        read_reference(path / "results.json")
    (tmp_path / "odd" / "results.json").mkdir(parents=True)
    with pytest.raises(ReferenceError, match="cannot be read"):
        read_reference(tmp_path / "odd")


def test_another_mode_than_wanted_is_an_error(reference_text, tmp_path):
    path = write(tmp_path / "full.json", reference_text)
    with pytest.raises(ReferenceError, match=r"mode 'quick', expected 'full'.*-m full --ablation-"):
        read_reference(path, "full")


def test_the_schema_is_the_one_of_this_version(reference_text):
    assert json.loads(reference_text)["schema"] == SCHEMA_VERSION == 1
