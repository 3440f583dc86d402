from collections.abc import Sequence
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Count, Entry, Family, Positive, Registry


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


def test_a_class_is_a_factory_too(tools):
    @tools.register("drill")
    class Drill:
        def __init__(self, wood: str, /, *, size: Count = 8) -> None:
            self.wood, self.size = wood, size

    assert [(o.name, o.default) for o in tools["drill"].options] == [("size", 8)]
    assert tools.build("drill", "oak", size=3).size == 3


def test_defaults_are_shown_as_a_recipe_would_say_them(tools):
    @tools.register("set")
    def bits(*, sizes: Sequence[Count] = (1, 2)) -> None: ...

    assert tools["set"].options[0].default == [1, 2]
    assert tools["set"].check({}) == {"sizes": [1, 2]}


def test_an_option_without_annotation_is_refused(tools):
    tools.register("axe")(lambda *, weight=1: None)
    with pytest.raises(TypeError, match="axe: weight must have a type annotation"):
        tools["axe"].check({})


def test_options_that_do_not_go_together_are_refused(tools):
    def refuse(*, short, heavy):
        if short and heavy:
            raise OptionError([Problem(("short",), "makes no heavy hammer")])

    @tools.register("hammer", refuse=refuse)
    def hammer(*, short: bool = False, heavy: bool = False) -> None: ...

    assert tools["hammer"].check({"short": True}) == {"short": True, "heavy": False}
    for call in (tools["hammer"].check, lambda options: tools.build("hammer", **options)):
        with pytest.raises(OptionError, match="short: makes no heavy hammer"):
            call({"short": True, "heavy": True})


def test_problems_of_a_choice_within_a_choice_keep_their_place(tools):
    def check(choice: dict) -> dict:
        return {"name": choice["name"], **tools[choice["name"]].check({k: v for k, v in choice.items() if k != "name"})}

    @tools.register("box")
    def box(*, tool: Annotated[dict, AfterValidator(check)]) -> None: ...

    assert tools["box"].options[0].default == "required"
    with pytest.raises(OptionError) as caught:
        tools["box"].check({"tool": {"name": "saw", "teth": 3, "width": -1}})
    assert {problem.path for problem in caught.value.problems} == {("tool", "teth"), ("tool", "width")}


def test_a_family_is_asked_for_names_with_its_prefix(tools):
    asked = []

    def find(name):
        asked.append(name)
        if name != "acme.plane":
            raise OptionError([Problem((), "acme makes planes only")])
        return Entry(name, lambda: "plane")

    tools.register_family(Family("acme.", "Use any tool of acme.", find))
    assert [entry.name for entry in tools] == ["saw"]
    assert [family.summary for family in tools.families] == ["Use any tool of acme."]
    assert not asked
    assert tools.build("acme.plane") == "plane"
    with pytest.raises(OptionError, match="planes only"):
        tools["acme.chisel"]
    with pytest.raises(OptionError, match=r"known: saw, acme\.\*"):
        tools["sow"]
