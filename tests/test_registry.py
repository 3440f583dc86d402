from typing import Literal

import pytest

from dml_bench.errors import OptionError
from dml_bench.registry import Count, Positive, Registry


@pytest.fixture
def tools() -> Registry[tuple]:
    registry: Registry[tuple] = Registry("tools")

    @registry.register("saw")
    def saw(wood: str, /, *, teeth: Count = 30, width: Positive | None = None, kind: Literal["rip", "cross"] = "rip"):
        """Cut wood.

        More text.
        """
        return wood, teeth, width, kind

    return registry


def test_options_are_the_keyword_only_parameters(tools):
    entry = tools["saw"]
    assert entry.facts == ("wood",)
    assert [(o.name, o.default, o.allowed) for o in entry.options] == [
        ("teeth", 30, "integer >= 1"),
        ("width", None, "number > 0 or null"),
        ("kind", "rip", "'rip', 'cross'"),
    ]
    assert entry.summary == "Cut wood."


def test_build_passes_facts_and_checked_options(tools):
    assert tools.build("saw", "oak", width=2) == ("oak", 30, 2.0, "rip")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teth": 3}, ["no option 'teth'", "did you mean 'teeth'", "width=null"]),
        ({"teeth": 0}, ["teeth", "greater than or equal to 1", "not 0"]),
        ({"teeth": "3"}, ["teeth", "valid integer"]),
        ({"width": float("inf")}, ["width", "finite"]),
        ({"kind": "cros"}, ["'rip' or 'cross'"]),
    ],
)
def test_wrong_options_say_what_is_allowed(tools, options, words):
    with pytest.raises(OptionError) as caught:
        tools.build("saw", "oak", **options)
    for word in words:
        assert word in str(caught.value)


def test_all_wrong_options_are_reported_at_once(tools):
    with pytest.raises(OptionError) as caught:
        tools["saw"].check({"teeth": 0, "kind": 1, "colour": "red"})
    assert {problem.path[0] for problem in caught.value.problems} == {"teeth", "kind", "colour"}


def test_unknown_name_has_a_suggestion(tools):
    with pytest.raises(OptionError, match="no tools named 'sow' .did you mean 'saw'"):
        tools["sow"]


def test_a_name_is_registered_once(tools):
    with pytest.raises(ValueError, match="registered already"):
        tools.register("saw")(lambda: None)


def test_ambiguous_parameters_are_refused(tools):
    with pytest.raises(TypeError, match="must be positional-only"):
        tools.register("axe")(lambda wood: None)
