from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dml_bench.reports.style import LOSS_ORDER, labels, looks
from dml_bench.reports.summary import sections


def looks_of(runs):
    return looks(sections(runs))


def test_every_known_loss_looks_like_no_other(make):
    found = looks_of([make(loss) for loss in (*LOSS_ORDER, "raw_pixels", "untrained")])
    assert len(set(found.values())) == len(LOSS_ORDER) + 2
    assert len({(look.color, look.marker) for look in found.values()}) == len(LOSS_ORDER) + 2
    assert len({(look.marker, look.line, look.fill) for look in found.values()}) == len(LOSS_ORDER) + 2  # in grey


def test_a_loss_looks_the_same_in_any_company(make):
    alone = looks_of([make("softtriple")])
    among = looks_of([make(loss) for loss in ("arcface", "softtriple", "plugin_loss")])
    assert among[make_key("softtriple")] == alone[make_key("softtriple")]
    assert among[make_key("plugin_loss")] == looks_of([make("plugin_loss")])[make_key("plugin_loss")]


def make_key(loss: str) -> tuple[str, str, str, int]:
    return (loss, "", "convnet", 64)


def test_options_keep_colour_and_marker_and_change_fill_and_line(make):
    others = [make(loss) for loss in LOSS_ORDER if loss != "softtriple"]
    found = looks_of([*others, *(make("softtriple", options={"centers_per_class": k}) for k in range(1, 18))])
    alone = looks_of([make("softtriple")])[make_key("softtriple")]
    variants = {look for key, look in found.items() if key[0] == "softtriple"}
    assert {(look.color, look.marker) for look in variants} == {(alone.color, alone.marker)} and len(variants) == 17
    # no other loss looks like one of them, in grey either
    grey = {(look.marker, look.line, look.fill) for look in found.values()}
    assert len(grey) == len(found)
    first = found[("softtriple", "centers_per_class=1", "convnet", 64)]
    assert first == looks_of([make("softtriple")])[make_key("softtriple")]


def test_the_same_row_looks_the_same_in_two_sections(make):
    runs = [make("arcface", dataset=d, options={"scale": s}) for d in ("digits", "glyphs") for s in (8, 64)]
    assert len(looks_of(runs)) == 2


@given(st.text(max_size=200), st.text(min_size=1, max_size=60), st.integers(12, 60))
def test_labels_keep_to_their_room(make, options, loss, width):
    (section,) = sections([make(loss, options={"x": options})])
    (label,) = labels(section, width, 3)
    lines = label.split("\n")
    assert len(lines) <= 3
    assert max(map(len, lines)) <= width


def test_long_options_lose_their_middle(make):
    options = {"margin": 0.35, "annealing": {"base": 1000, "gamma": 0.12, "power": 1, "minimum": 5}, "epochs": 40}
    (label,) = labels(sections([make("a_softmax", options=options)])[0], 34, 3)
    assert label.startswith("a_softmax\nmargin=0.35")
    assert "…" in label
    assert label.endswith("epochs=40")


def test_dimension_is_part_of_the_name_only_where_it_varies(make):
    runs = [make("arcface", recipe_id=str(d), embedding_dim=d) for d in (64, 128)]
    assert labels(sections(runs[:1])[0], 40, 3) == ["arcface"]
    assert sorted(labels(sections(runs)[0], 40, 3)) == ["arcface  128-d", "arcface  64-d"]
