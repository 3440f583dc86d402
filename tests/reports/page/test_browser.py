"""The page in a real browser, which is given no network."""

from __future__ import annotations

import shutil

import pytest

from dml_bench.recipe.reader import write_document
from dml_bench.reports.page import to_html
from dml_bench.reports.summary import natural

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SECURE, INSECURE = "https://report.test/", "http://report.test/"

MEANS = {"arcface": 0.81, "proxy_nca": 0.9, "circle": 0.9, "triplet": 0.7, "supcon": None}


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open a page in a context of its own, and see to it that it asked for nothing and complained of nothing."""
    complaints, contexts = [], []

    def open_page(text: str, address: str = SECURE, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)

        def answer(route):
            if route.request.url == address:
                route.fulfill(body=text, content_type="text/html; charset=utf-8")
            else:
                complaints.append(route.request.url)
                route.abort()

        context.route("**/*", answer)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def runs(make):
    found = []
    for i, (loss, mean) in enumerate(MEANS.items()):
        result = {"metrics": {"recall@1": mean}} if mean else {"metrics": {}, "status": "failed", "reason": "error: x"}
        recipe = {"name": "mine", "loss": {"name": loss, "note": 'it\'s < & "5"'}}
        found.append(make(loss, recipe_id=f"{i:012x}", recipe=recipe, options={"K": 10**i}, **result))
    return [*found, make("raw_pixels", metrics={"recall@1": 0.85}), make("untrained", metrics={"recall@1": 0.2})]


@pytest.fixture(scope="module")
def text(runs):
    return to_html(runs)


def losses(page) -> list[str]:
    return page.locator("#board-1 tbody tr:visible th").all_inner_texts()


def sorted_columns(page) -> dict[str, str]:
    titles = page.locator("#board-1 th[aria-sort]").all()
    return {title.inner_text().strip(): title.get_attribute("aria-sort") for title in titles}


def title(page, name: str):
    return page.locator("#board-1 thead").get_by_role("button", name=name, exact=True)


REFERENCES = ["raw_pixels", "untrained"]


def test_a_click_sorts_best_first_and_another_turns_it_round(visit, text):
    page = visit(text)
    assert sorted_columns(page) == {"rank": "ascending"}
    title(page, "recall@1").click()
    assert losses(page) == ["circle", "proxy_nca", "arcface", "triplet", "supcon", *REFERENCES]
    assert sorted_columns(page) == {"recall@1": "descending"}
    title(page, "recall@1").click()
    assert losses(page) == ["triplet", "arcface", "circle", "proxy_nca", "supcon", "untrained", "raw_pixels"]
    assert sorted_columns(page) == {"recall@1": "ascending"}


def test_sorting_is_stable_counts_and_keeps_what_is_missing_last(visit, text):
    page = visit(text)
    title(page, "options").click()
    assert losses(page)[:5] == ["arcface", "proxy_nca", "circle", "triplet", "supcon"]  # K=1, 10, 100, ...
    title(page, "options").click()
    title(page, "recall@1").click()
    assert losses(page)[:2] == ["circle", "proxy_nca"]  # equal, so as they were: K=100 before K=10
    assert losses(page)[4] == "supcon"


def option_cells(page) -> list[str]:
    return page.locator("#board-1 tbody tr").evaluate_all("rows => rows.map((row) => row.cells[3].textContent.trim())")


def test_texts_sort_by_their_decimals_in_both_directions(visit, make):
    margins = [0.2, 10, 0.05, 0.5, 0.15, 0.35]
    page = visit(
        to_html([make("arcface", recipe_id=f"{i:012x}", options={"margin": m}) for i, m in enumerate(margins)])
    )
    rising = [f"margin={margin}" for margin in (0.05, 0.15, 0.2, 0.35, 0.5, 10)]
    title(page, "options").click()
    assert option_cells(page) == rising
    title(page, "options").click()
    assert option_cells(page) == rising[::-1]


def test_texts_sort_as_tables_do(visit, make):
    texts = ["9", "x", "x1", "X2", "1e-05", "a10b2", "a10b10", "a9", "a10", "1.2.3", "1.10.3", "-0.5", "0.10", "naïve"]
    runs = [make("arcface", recipe_id=f"{i:012x}", options={"of": text}) for i, text in enumerate(texts)]
    page = visit(to_html(runs))
    title(page, "options").click()
    assert option_cells(page) == [f"of={text}" for text in sorted(texts, key=natural)]


def test_the_keyboard_reaches_the_titles_and_sorts(visit, text):
    page = visit(text)
    page.locator("input[aria-controls=board-1]").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "loss"
    page.keyboard.press("Enter")
    assert losses(page)[:5] == ["arcface", "circle", "proxy_nca", "supcon", "triplet"]
    page.keyboard.press("Space")
    assert losses(page)[:5] == ["triplet", "supcon", "proxy_nca", "circle", "arcface"]
    assert sorted_columns(page) == {"loss": "descending"}


def test_the_filter_keeps_rows_with_all_words_and_says_how_many(visit, text):
    page = visit(text)
    count = page.locator(".board").first.get_by_role("status")
    assert count.inner_text() == "7 rows"
    box = page.get_by_role("searchbox").first
    box.fill("k=100")
    assert losses(page) == ["circle", "triplet", "supcon"]
    assert count.inner_text() == "3 of 7 rows"
    box.fill("FAILED k=100")
    assert losses(page) == ["supcon"]
    title(page, "loss").click()
    assert losses(page) == ["supcon"]
    box.fill("nothing like it")
    assert count.inner_text() == "0 of 7 rows"
    box.fill("")
    assert len(losses(page)) == 7


def expected(runs) -> str:
    recipe = runs[1].recipe
    return write_document({**recipe, "seeds": [0], "references": False})


@pytest.mark.parametrize("address", [SECURE, INSECURE])
def test_a_recipe_is_copied_with_or_without_a_clipboard_to_write_to(visit, text, runs, address):
    page = visit(text, address)
    assert page.evaluate("!!navigator.clipboard") is (address == SECURE)
    page.get_by_role("button", name=f"Copy recipe {runs[1].recipe_id}").click()
    page.wait_for_function("document.getElementById('said').textContent")
    assert page.locator("#said").inner_text() == f"Recipe {runs[1].recipe_id}, seeds 0 copied"
    assert page.get_by_role("button", name="Copied recipe").count() == 1
    page.close()
    reader = visit(text, permissions=["clipboard-read", "clipboard-write"])
    assert reader.evaluate("navigator.clipboard.readText()") == expected(runs)


def test_a_file_opened_from_the_disk_copies_too(chromium, text, runs, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    asked = []
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url.split(",")[0]))
    page.on("console", lambda message: asked.append(message.text))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto(file.as_uri())
    page.get_by_role("button", name=f"Copy recipe {runs[1].recipe_id}").click()
    page.wait_for_function("document.getElementById('said').textContent")
    assert page.evaluate("navigator.clipboard.readText()") == expected(runs)
    page.locator("#theme").click()
    context.close()
    assert set(asked) <= {file.as_uri(), "data:"}


def test_a_recipe_is_shown_where_it_is_asked_for(visit, text, runs):
    page = visit(text)
    assert page.locator("details.recipe pre").first.inner_text() == ""
    page.locator("#board-1 tr", has_text="proxy_nca").locator("summary").click()
    shown = page.locator("details[open] pre")
    sync_api.expect(shown).not_to_be_empty()  # opening tells the script of it a moment later
    assert shown.inner_text() == expected(runs)


COLORS = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"


def test_dark_and_light_follow_the_system_until_the_reader_chooses(visit, text):
    page = visit(text, color_scheme="light")
    light = page.evaluate(COLORS)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(COLORS)
    assert light != dark and light[0] == "rgb(255, 255, 255)"
    button = page.locator("#theme")
    assert button.inner_text() == "Light"
    button.click()
    assert page.evaluate(COLORS) == light
    page.emulate_media(color_scheme="light")
    button.click()
    assert page.evaluate(COLORS) == dark
    assert page.evaluate("getComputedStyle(document.querySelector('td')).backgroundColor") == dark[0]


# The least contrast of any text with what is behind it, as WCAG 2 defines it, and the text.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parse(color).slice(0, 3)
    .map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      const alpha = parse(color)[3] ?? 1;
      if (alpha === 1) return color;
      if (alpha !== 0) throw new Error(`half transparent: ${color}`);
    }
  };
  let least = [99, "", ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(".unseen")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, node.tagName, walker.currentNode.data.trim()];
  }
  return least;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(visit, hostile_text, scheme):
    page = visit(hostile_text, color_scheme=scheme)
    ratio, element, what = page.evaluate(CONTRAST)
    print(f"{scheme}: least contrast {ratio:.1f} in {element}")
    assert ratio >= 4.5, (ratio, element, what)


def test_names_that_look_like_markup_are_shown_and_nothing_runs(visit, hostile_text, names):
    page = visit(hostile_text)
    shown = page.locator("#board-1 tbody th").all_text_contents()
    assert {name.strip() for name in names} <= {text.strip() for text in shown}
    page.locator("summary").first.click()
    sync_api.expect(page.locator("details[open] pre")).to_contain_text("name: ")
    assert page.locator("details[open] pre").inner_text().startswith("name: ")
    title(page, "loss").click()
    page.get_by_role("searchbox").first.fill("<script>alert(1)")
    assert "<script>alert(1)</script>" in losses(page)
    page.wait_for_timeout(200)
    assert page.locator("img").evaluate_all("images => images.every((image) => image.complete)")
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_itself_never_scrolls_sideways(visit, hostile_text, width):
    page = visit(hostile_text)
    page.set_viewport_size({"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_the_names_stay_while_the_table_scrolls(visit, text):
    page = visit(text)
    page.set_viewport_size({"width": 360, "height": 740})
    box = page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => { box.scrollLeft = 400; }")
    name = page.locator("#board-1 tbody th").first
    assert abs(name.bounding_box()["x"] - box.bounding_box()["x"]) < 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


WIDE = b"<svg xmlns='http://www.w3.org/2000/svg' width='999pt' height='300pt' viewBox='0 0 999 300'/>"


@pytest.fixture
def pictured(visit, make):
    return visit(to_html([make()], {"dots.svg": WIDE, "wins.svg": WIDE.replace(b"999pt", b"99pt")}))


def test_on_a_phone_pictures_keep_their_size_and_scroll_while_captions_stay(pictured):
    pictured.set_viewport_size({"width": 375, "height": 740})
    assert pictured.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert all(image.bounding_box()["width"] >= 600 for image in pictured.locator("figure img").all())
    box = pictured.get_by_role("group", name="Picture: Dots")
    box.evaluate("box => box.addEventListener('scroll', () => { box.dataset.at = box.scrollLeft > 0; })")
    box.focus()
    pictured.keyboard.press("ArrowRight")
    sync_api.expect(box).to_have_attribute("data-at", "true")
    for caption in pictured.locator("figcaption").all():
        place = caption.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= 375
        assert caption.evaluate("caption => parseFloat(getComputedStyle(caption).fontSize)") >= 13


def test_the_keyboard_stops_at_pictures_only_where_they_scroll(pictured):
    stops = pictured.locator(".picture[tabindex='0']")
    assert stops.count() == 0
    image = pictured.locator("figure img").first
    assert image.evaluate("image => image.parentElement.scrollWidth === image.parentElement.clientWidth")
    pictured.set_viewport_size({"width": 375, "height": 740})
    sync_api.expect(stops).to_have_count(2)


def test_on_paper_there_are_tables_and_no_buttons(visit, text):
    page = visit(text, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(COLORS)[0] == "rgb(255, 255, 255)"
    assert not page.locator(".copy").first.is_visible()
    assert not page.locator("input").first.is_visible()
    assert page.locator(".scroll").first.evaluate("box => getComputedStyle(box).overflowX") == "visible"


def test_a_screen_reader_finds_named_tables_and_headers(visit, text):
    page = visit(text)
    board = page.get_by_role("table", name="glyphs: protocol p0")
    assert board.get_by_role("columnheader").count() == board.locator("thead th").count()
    assert board.get_by_role("rowheader", name="arcface").count() == 1
    assert page.get_by_role("region", name="glyphs: protocol p0").count() == 1


MEASURE = """async () => {
  const button = [...document.querySelectorAll("#board-1 thead button")].find((one) => one.textContent === "recall@1");
  const begun = performance.now();
  button.click();
  const sorted = performance.now();
  document.body.offsetHeight;
  const laid = performance.now();
  const box = document.querySelector("input");
  box.value = "loss_7 ";
  box.dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return [sorted - begun, laid - begun, performance.now() - laid];
}"""


def test_a_thousand_rows_open_and_sort_fast(visit, many):
    text = to_html(many)
    assert len(text) < 3_000_000
    page = visit(text)
    opened = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    sort, laid, kept = page.evaluate(MEASURE)
    print(f"{len(text) / 1e6:.1f} MB: open {opened:.0f} ms, sort {sort:.0f}, laid out {laid:.0f}, filter {kept:.0f}")
    assert page.locator("#board-1 tbody th").first.inner_text().startswith("loss_")
    assert max(opened, laid, kept) < 15_000  # it once took 52 s
    values = page.locator("#board-1 tbody tr").evaluate_all("rows => rows.map((row) => row.cells[5].dataset.value)")
    known = [float(value) for value in values if value is not None]
    assert len(known) == 999 and known == sorted(known, reverse=True) and values[-1] is None
