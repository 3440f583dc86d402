from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser

import pytest

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.recipe.reader import read_recipe
from dml_bench.reports.page import to_html
from dml_bench.reports.page.pictures import CAPTIONS
from dml_bench.reports.page.recipes import recipe_text
from dml_bench.reports.plots import ACROSS, EXTRA, PICTURES
from dml_bench.reports.report import write_report
from dml_bench.reports.summary import sections

VOID = {"meta", "link", "img", "input", "wbr"}


class Reader(HTMLParser):
    """Collects every element with its attributes and all the text in it, and refuses what is not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict, list[str]]] = []
        self.found: list[tuple[str, dict, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.open.append((tag, dict(attrs), []))
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attrs)["id"], [])
        if tag == "tr":
            self.rows.append([])
        if tag in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data):
        for *_, texts in self.open:
            texts.append(data)

    def handle_endtag(self, tag):
        begun, attrs, texts = self.open.pop()
        assert begun == tag
        self.found.append((tag, attrs, "".join(texts)))
        if tag in ("th", "td"):
            self.rows[-1].append("".join(texts).strip())

    def texts(self, tag: str, **attrs: str) -> list[str]:
        return [text.strip() for name, of, text in self.found if name == tag and attrs.items() <= of.items()]

    def attributes(self, tag: str) -> list[dict]:
        return [of for name, of, _ in self.found if name == tag]


@pytest.fixture(scope="module")
def hostile_page(hostile_text):
    return Reader(hostile_text)


def test_names_that_look_like_markup_are_read_back_as_text(hostile_page, names):
    rows, cells = hostile_page.texts("th", scope="row"), hostile_page.texts("td")
    assert {" ".join(name.split()) for name in names} <= {" ".join(text.split()) for text in rows}
    assert {f"{name}={name}" for name in names} <= set(cells)
    assert f"error: {names[0]}" in cells
    assert names[0] in hostile_page.texts("h1")
    assert any(names[1] in of["alt"] for of in hostile_page.attributes("img"))


def test_no_name_becomes_an_element_an_attribute_or_an_address(hostile_page, make):
    tame = Reader(to_html([make()], {"a.png": b"x"}))
    extra = {"strong", "small", "details", "summary", "code", "pre", "wbr", "p", "label", "output", "input"}
    assert {tag for tag, *_ in hostile_page.found} <= {tag for tag, *_ in tame.found} | extra
    assert hostile_page.attributes("script") == [{"type": "application/json", "id": "recipes"}, {}]
    for _, attributes, _ in hostile_page.found:
        assert not {name for name in attributes if name.startswith("on") or name in ("style", "srcdoc", "action")}
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_recipes_that_look_like_markup_come_back_from_the_script_element(hostile_page, names):
    [text] = hostile_page.texts("script", id="recipes")
    assert "<" not in text
    stored = json.loads(text)
    found = ["\n".join(stored["lines"][i] for i in recipe) for recipe in stored["recipes"].values()]
    assert len(found) == len(names) + 2
    assert all(any(name in text.replace("''", "'") for text in found) for name in names if "\u202e" not in name)


def test_the_policy_lets_in_this_style_and_this_script_alone(hostile_page):
    [policy] = [of["content"] for of in hostile_page.attributes("meta") if "http-equiv" in of]
    for tag in ("style", "script"):
        content = next(text for name, of, text in hostile_page.found if name == tag and not of)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_tables_have_captions_headers_and_one_sorted_column(hostile_page):
    tables = len(hostile_page.texts("table"))
    assert len(hostile_page.texts("caption")) == tables >= 3
    assert all(hostile_page.texts("caption"))
    assert all(of.get("scope") in ("row", "col") for of in hostile_page.attributes("th"))
    assert [of["aria-sort"] for of in hostile_page.attributes("th") if "aria-sort" in of] == ["ascending"] * 2


def cells_of(text: str, loss: str) -> dict[str, str]:
    """Return the cells of the leaderboard's row of a loss by column."""
    titles, *rows = Reader(text).tables["board-1"]
    found = [dict(zip(titles, row, strict=True)) for row in rows]
    [row] = [row for row in found if row["loss"] == loss]
    return row


def test_a_row_says_its_rank_and_in_words_what_is_wrong_with_it(make):
    runs = [make("arcface", metrics={"recall@1": 0.4}), make("proxy_nca", metrics={"recall@1": 0.9})]
    runs += [make("triplet", metrics={"recall@1": 0.9}), make("raw_pixels", metrics={"recall@1": 0.5})]
    runs += [make("circle", status="failed", reason="diverged: nan", metrics={})]
    text = to_html(runs)
    found = {loss: cells_of(text, loss) for loss in ("arcface", "proxy_nca", "triplet", "raw_pixels", "circle")}
    assert {loss: cells["rank"] for loss, cells in found.items()} == {
        "arcface": "3",
        "proxy_nca": "1",
        "triplet": "1",
        "raw_pixels": "–",
        "circle": "–",
    }
    assert {loss: cells["status"] for loss, cells in found.items()} == {
        "arcface": "ok; below raw_pixels",
        "proxy_nca": "ok",
        "triplet": "ok",
        "raw_pixels": "reference, not trained",
        "circle": "failed: diverged: nan",
    }
    last = text.split('<tbody class="last">')[1].split("</tbody>")[0]
    assert "raw_" in last and "arcface" not in last
    assert found["arcface"]["seeds"] == "n=1, no claim"


def test_lower_ranks_first_where_lower_is_better(make):
    runs = [make("arcface", metrics={"eer": 0.4}), make("proxy_nca", metrics={"eer": 0.1})]
    text = to_html([*runs, make("raw_pixels", metrics={"eer": 0.3})])
    assert cells_of(text, "arcface")["rank"] == "2"
    assert cells_of(text, "arcface")["status"] == "ok; below raw_pixels"
    assert cells_of(text, "proxy_nca")["status"] == "ok"


def test_an_interval_is_that_of_the_seeds(make):
    runs = [make(seed=seed, metrics={"recall@1": value}) for seed, value in enumerate((0.8, 0.9))]
    cell = cells_of(to_html(runs), "arcface")["recall@1"].split()
    assert cell == ["85.0", "[21.5,", "100.0]"]  # 85 ± 12.7 x 5, by Student's t; a share ends at 100


def test_of_one_picture_the_smaller_kind_is_shown_beside_its_section(make):
    runs = [make(), make(dataset="digits")]
    pictures = {"metrics-glyphs-p0.png": b"longer", "metrics-glyphs-p0.svg": b"short", "notes.png": b"x"}
    text = to_html(runs, pictures, galleries={"worst_queries.jpg": b"y"})
    shown = Reader(text).attributes("img")
    assert [of["src"].split(";")[0] for of in shown] == ["data:image/svg+xml", "data:image/png", "data:image/jpeg"]
    assert Reader(text).texts("figcaption") == ["Metrics", "Notes", "Worst queries"]
    assert shown[0]["alt"].startswith("Metrics. 1 row on glyphs, protocol p0. First by recall@1: arcface with 80.0.")
    assert text.index("board-2") < text.index("Metrics</figcaption>") < text.index("Notes</figcaption>")


def test_every_kind_of_picture_has_a_sentence_that_says_how_to_read_it():
    assert set(CAPTIONS) == {*PICTURES, *ACROSS, *EXTRA}
    for sentence in CAPTIONS.values():
        assert len(sentence.split()) >= 10
        assert sentence.endswith(".") and ". " not in sentence


def test_a_picture_is_said_in_its_caption_and_its_alt_text(make):
    runs = [make(), make("triplet"), make(dataset="digits")]
    pictures = dict.fromkeys(("dots-glyphs-p0.png", "critical-difference.svg"), b"x")
    page = Reader(to_html(runs, pictures))
    dots, ranks = CAPTIONS["dots"], CAPTIONS["critical-difference"]
    assert page.texts("figcaption") == [dots, ranks]
    beside, across = (of["alt"] for of in page.attributes("img"))
    assert beside.startswith(f"{dots} 2 rows on glyphs, protocol p0. First by recall@1: arcface with 80.0.")
    assert across == f"{ranks} 3 rows on digits, glyphs. The tables have the numbers."


def test_a_picture_of_an_unknown_kind_is_named(make):
    with pytest.raises(ResultsError, match="film.mp4: a page shows pictures of the kinds png, svg"):
        to_html([make()], {"film.mp4": b""})


def test_unknown_metrics_are_refused_and_known_ones_chosen(make):
    run = make(metrics={"recall@1": 0.8, "nmi": 0.5})
    with pytest.raises(DmlBenchError, match="--metrics recal"):
        to_html([run], metrics=["recal"])
    assert "nmi" not in cells_of(to_html([run], metrics=["recall@1"]), "arcface")


def test_published_figures_findings_and_environments_have_their_tables(make):
    machine = {"processor": "Z80", "git": {"commit": "0" * 40, "modified": True}, "packages": {"torch": "2.6"}}
    runs = [make("softtriple", seed, dataset="cub200", environment=machine) for seed in (0, 1)]
    page = Reader(to_html(runs))
    assert page.texts("h2")[1:] == ["Published figures beside ours", "Findings", "Environments"]
    cells = page.texts("td") + page.texts("th", scope="row")
    assert {"Z80", "torch 2.6", "commit 000000000000 with changes", "2 seeds; below 3 the spread is not known"} <= set(
        cells
    )
    assert any("65.4" in cell for cell in cells)  # what the SoftTriple paper reports on this data set


def test_what_is_found_alike_in_many_places_is_one_row_that_names_the_first(many):
    titles, *rows = Reader(to_html(many)).tables["found"]
    assert titles == ["severity", "check", "where", "what", "times"]
    assert len(rows) < 10
    [seeds] = [row for row in rows if row[1] == "seeds"]
    assert seeds[2].count("; ") == 3 and seeds[2].endswith("; and 997 more")
    assert seeds[3:] == ["1 seed; below 3 the spread is not known", "1000"]


def test_few_places_are_all_named(make):
    runs = [make(loss, seed) for loss in ("arcface", "triplet", "circle") for seed in (0, 1)]
    text = to_html(runs)
    [seeds] = [row for row in Reader(text).tables["found"] if row[1] == "seeds"]
    assert seeds[2].count("; ") == 2 and "more" not in seeds[2]
    assert seeds[4] == "3" and "names every place" not in text


def test_a_recipe_runs_all_seeds_of_its_row_again(tmp_path, make, pytestconfig):
    from dml_bench.flow import VOCABULARY

    runs = read_recipe(pytestconfig.rootpath / "recipes/quickstart.yaml", VOCABULARY)
    records = [
        make(
            run.recipe.loss["name"] if run.recipe.loss else "untrained" if run.recipe.embedding else "raw_pixels",
            run.recipe.seed,
            recipe_id=run.recipe_id,
            recipe=run.recipe.document(),
        )
        for run in runs
    ]
    (section,) = sections(records)
    blocks: dict[str, str] = {}
    found = []
    for i, row in enumerate(section.rows):
        file = tmp_path / f"{i}.yaml"
        file.write_text(recipe_text(row, blocks))
        found += [run.run_id for run in read_recipe(file, VOCABULARY)]
    assert sorted(found) == sorted(run.run_id for run in runs)


def test_hundreds_of_rows_are_a_report_whose_pictures_show_the_first(many, tmp_path):
    written = {path.name: path for path in write_report(many[:300], tmp_path, formats=["html"])}
    for kind in ("dots", "recall", "pareto"):
        assert "; the first 40 of 300 rows" in written[f"{kind}.svg"].read_text("utf-8")
    assert written["report.html"].read_text("utf-8").count("data-recipe=") >= 300


def test_a_report_draws_once_for_files_and_page(make, tmp_path, monkeypatch):
    drawn = []

    def draw(records):
        drawn.append(len(records))
        yield "metrics.png", b"png"

    monkeypatch.setattr("dml_bench.reports.plots.draw", draw)
    written = write_report([make()], tmp_path, formats=["html"])
    assert [path.name for path in written][-2:] == ["metrics.png", "report.html"]
    assert drawn == [1]
    assert "cG5n" in written[-1].read_text(encoding="utf-8")  # png, in base 64
    write_report([make()], tmp_path, pictures=False)
    assert not (tmp_path / "report.html").exists()
