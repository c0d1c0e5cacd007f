"""What can be wrong with a definition is said when it is made."""

from dataclasses import dataclass

import pytest

from pytest_ablation import Mode, Study, StudyError, Variant


@dataclass(frozen=True)
class Config:
    depth: int = 2
    width: float = 1.0
    norm: str | None = "layer"

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"depth must be 1 or more, found {self.depth}")


def train(config, run):
    """Never called here."""


def define(*variants, **other):
    arguments = {
        "name": "mine",
        "train": train,
        "baseline": Config(),
        "variants": variants or [Variant("shallow", depth=1)],
        "metrics": ["top1"],
        "quick": Mode(seeds=3),
    } | other
    return Study(arguments.pop("name"), **arguments)


@pytest.mark.parametrize("baseline", [Config(), {"depth": 2, "width": 1.0, "norm": "layer"}])
def test_a_variant_is_its_baseline_with_its_changes(baseline):
    study = define(
        Variant("shallow", depth=1),
        Variant("shallow_plain", against="shallow", norm=None),
        baseline=baseline,
    )
    config = study.configuration("shallow_plain")
    values = config if isinstance(config, dict) else vars(config)
    assert values == {"depth": 1, "width": 1.0, "norm": None}
    assert study.baseline_of("shallow_plain") == "shallow"
    assert study.resolved().changes_of("shallow_plain") == {"norm": ("layer", None)}


def test_an_int_for_a_float_field_is_that_float():
    assert repr(define(Variant("wide", width=2)).configuration("wide").width) == "2.0"
    with pytest.raises(StudyError, match="same configuration as its baseline"):
        define(Variant("wide", width=1))


@pytest.mark.parametrize("baseline", [Config(), {"depth": 2, "width": 1.0, "norm": "layer"}])
def test_a_variant_that_resolves_to_its_baseline_is_an_error(baseline):
    with pytest.raises(StudyError, match=r"mine: variant 'deep' resolves to the same.*depth=2 is"):
        define(Variant("deep", depth=2), baseline=baseline)


@pytest.mark.parametrize("baseline", [Config(), {"depth": 2, "width": 1.0, "norm": "layer"}])
def test_a_field_that_does_not_exist_is_an_error_with_the_nearest_names(baseline):
    with pytest.raises(StudyError, match=r"no field 'widht' .*did you mean width\?"):
        define(Variant("wide", widht=2.0), baseline=baseline)


def test_a_value_that_the_configuration_refuses_names_the_variant():
    with pytest.raises(StudyError, match=r"variant 'none': Config refuses .*depth must be 1"):
        define(Variant("none", depth=0))


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", "a..b", "a|b", "a=b", "=1+1", "<script>", "", "a b", "-x", "x" * 81, "é", None],
)
def test_a_name_that_could_break_ids_tables_or_paths_is_an_error(name):
    with pytest.raises(StudyError, match="cannot be used: expected 1 to 80 letters"):
        Variant(name, depth=1)
    with pytest.raises(StudyError, match="study name"):
        define(name=name)
    with pytest.raises(StudyError, match="metric name"):
        define(metrics=[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": [Variant("a", depth=1), Variant("a", depth=3)]}, "2 rows are called 'a'"),
        ({"variants": [Variant("baseline", depth=1)]}, "2 rows are called 'baseline'"),
        ({"variants": []}, "no variants"),
        ({"metrics": []}, "no metrics"),
        ({"metrics": ["top1", "top1"]}, "2 metrics are called 'top1'"),
        ({"quick": None}, "no mode"),
        ({"train": None}, "train must be a function"),
        ({"baseline": 3}, "a dataclass instance or a dict, found int"),
        ({"baseline": Config}, "a dataclass instance or a dict"),
        ({"baseline": {"f": train}}, "field 'f' holds a function"),
        ({"margin": 5}, "margin is a fraction"),
        ({"variants": [Variant("a", against="b", depth=1)]}, "against='b', which does not exist"),
        (
            {"variants": [Variant("a", against="b", depth=1), Variant("b", against="a", depth=3)]},
            "a, b are compared against each other in a circle",
        ),
    ],
)
def test_other_errors_of_definition(change, message):
    with pytest.raises(StudyError, match=message):
        define(**change)


def test_a_variant_without_changes_is_an_error():
    with pytest.raises(StudyError, match="variant 'same' changes nothing"):
        Variant("same")


def test_an_unknown_word_in_allow_different_is_an_error():
    with pytest.raises(StudyError, match=r"has 'batchorder'; did you mean batch_order\?"):
        Variant("a", depth=1, allow_different=["batchorder"])


@pytest.mark.parametrize("seeds", [0, [], [-1], [1, 1], [True], ["a"], True, 2.5, None])
def test_bad_seeds_are_an_error(seeds):
    with pytest.raises(StudyError, match="seed"):
        Mode(seeds=seeds)


def test_a_mode_says_what_its_budget_lacks():
    with pytest.raises(AttributeError, match=r"no 'epochs'; its budget has \['steps'\]"):
        Mode(seeds=1, steps=3).epochs  # noqa: B018


def test_fields_that_collide_with_parameters_can_be_given_as_a_mapping():
    study = define(
        Variant("other", {"description": "b"}),
        baseline={"description": "a"},
    )
    assert study.configuration("other") == {"description": "b"}


def test_values_of_another_type_are_another_configuration():
    @dataclass(frozen=True)
    class Layer:
        eps: float = 1e-5

    @dataclass(frozen=True)
    class RMS:
        eps: float = 1e-5

    study = define(Variant("rms", norm=RMS()), baseline={"norm": Layer()})
    assert list(study.resolved().changes_of("rms")) == ["norm"]


def test_a_seed_count_keeps_the_seeds_of_the_mode():
    mode = Mode(seeds=[11, 22, 33], epochs=2)
    assert mode.with_seed_count(2).seeds == (11, 22)
    assert mode.with_seed_count(5).seeds == (11, 22, 33, 0, 1)
    assert mode.with_seed_count(2).epochs == 2
