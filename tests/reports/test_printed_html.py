from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.reports.html import to_html_fragment
from dml_bench.reports.printed import Cell, Printed

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12)
CELL = st.builds(Cell, TEXT, st.booleans(), st.booleans(), TEXT)
VOID_FREE = {"section", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "abbr", "sup", "p"}


@st.composite
def tables(draw):
    """Draw the arguments of a table; what checks types at run time may not draw lots inside a strategy."""
    width = draw(st.integers(1, 3))
    row = st.tuples(*[CELL] * width)
    return (
        draw(TEXT),
        draw(st.tuples(*[TEXT] * width)),
        draw(st.tuples(*[st.booleans()] * width)),
        tuple(draw(st.lists(row, max_size=3))),
        tuple(draw(st.lists(TEXT, max_size=2))),
    )


class Reader(HTMLParser):
    """Collects every element with its attributes and all the text in it, and refuses what is not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict, list[str]]] = []
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in VOID_FREE
        self.open.append((tag, dict(attrs), []))

    def handle_data(self, data):
        for *_, texts in self.open:
            texts.append(data)

    def handle_endtag(self, tag):
        begun, attrs, texts = self.open.pop()
        assert begun == tag
        self.found.append((tag, attrs, "".join(texts)))

    def texts(self, tag: str, **attrs: str) -> list[str]:
        return [text for name, of, text in self.found if name == tag and attrs.items() <= of.items()]


def shown(cell: Cell) -> str:
    return cell.text + "†" * cell.tied + cell.letters


@given(st.lists(tables(), max_size=2))
def test_a_browser_reads_the_texts_back(drawn):
    printed = [Printed(*arguments) for arguments in drawn]
    page = Reader(to_html_fragment(printed))
    rows = [row for table in printed for row in table.rows]
    cells = [cell for row in rows for cell in row]
    assert len(page.texts("section")) == len(page.texts("table")) == len(printed)
    assert page.texts("caption") == [table.title for table in printed]
    assert page.texts("th", scope="col") == [title for table in printed for title in table.columns]
    assert page.texts("th", scope="row") == [shown(row[0]) for row in rows]
    assert page.texts("td") == [shown(cell) for row in rows for cell in row[1:]]
    assert page.texts("p") == [note for table in printed for note in table.notes]
    assert page.texts("strong") == [cell.text for cell in cells if cell.bold]
    assert page.texts("sup") == [cell.letters for cell in cells if cell.letters]
    assert page.texts("abbr", title="not told apart from the best") == ["†" for cell in cells if cell.tied]
    numeric = [title for table in printed for title, number in zip(table.columns, table.numeric, strict=True) if number]
    assert page.texts("th", scope="col", **{"class": "number"}) == numeric


def test_marks_in_a_name_stay_text():
    name = "</table><script>alert('1')</script> & \"x\""
    text = to_html_fragment([Printed(name, (name,), (False,), ((Cell(name, letters=name),),), (name,))])
    assert "<script" not in text and text.count("</table>") == 1 and "style" not in text


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        to_html_fragment([Printed("t", ("a", "b"), (False, True), ((Cell("x"),),), ())])
