"""The report in a real browser: sliders against `select`, both colour schemes, two widths, and what axe-core finds."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.filter.report.facts import gather
from bisift.filter.report.markup import write_page
from bisift.filter.report.page import render
from tests.unit.test_ranking import write
from tests.unit.test_report import EVIL, made

CLI = Path(sys.executable).with_name("filter-cli")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scored.parquet, among whose texts and names are evil ones, and its report.html."""
    place = tmp_path_factory.mktemp("browser")
    table = made(3_000)
    odd = np.arange(table.num_rows) % 10 == 0
    for name in ("source", "target", "document_id", "generator"):
        values = table.column(name).to_pylist()
        values = [EVIL[row % len(EVIL)] if odd[row] else value for row, value in enumerate(values)]
        index = table.schema.get_field_index(name)
        table = table.set_column(
            index, table.schema.field(index), pa.array(values).cast(table.schema.field(index).type)
        )
    scored = write(place / "scored one's.parquet", table)
    write_page(render(gather([scored], samples=20)), str(place / "report.html"), [scored])
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


def opened(browser: Any, folder: Path, **settings: Any) -> tuple[Any, list[str]]:
    """Open the report; the list fills with errors, dialogs and requests for anything but the page."""
    page = browser.new_context(**settings).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    address = (folder / "report.html").as_uri()
    page.on("request", lambda request: wrong.append(request.url) if request.url != address else None)
    page.goto(address)
    return page, wrong


def slide(page: Any, slider: str, value: int) -> None:
    page.locator(slider).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", str(value)
    )


@pytest.mark.parametrize(("quality", "ai"), [(0, 100), (35, 80), (58, 57), (100, 0)])
def test_the_command_takes_what_the_sliders_promise(browser: Any, folder: Path, quality: int, ai: int) -> None:
    page, wrong = opened(browser, folder)
    slide(page, "#min-quality", quality)
    slide(page, "#max-ai", ai)
    shown = {name: int(page.inner_text(f"#{name}").replace(",", "")) for name in ("pairs", "tokens", "documents")}
    words = shlex.split(page.inner_text("#command"))
    assert words[:2] == ["filter-cli", "select"]
    subprocess.run([CLI, *words[1:]], cwd=folder, check=True, capture_output=True, timeout=60)
    taken = pq.read_table(folder / "chosen.parquet")
    documents = set(taken.column("document_id").to_pylist()) - {None}
    tokens = sum(taken.column("target_words").to_pylist())
    assert shown == {"pairs": taken.num_rows, "tokens": tokens, "documents": len(documents)}
    assert page.inner_text("#stays").startswith(f"{taken.num_rows:,} of ")
    assert wrong == []


def test_the_keyboard_moves_a_slider_and_the_frame(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder)
    whole = page.get_attribute("#chosen", "height")
    page.focus("#min-quality")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#min-quality-value") == "0.01"
    assert "--min-quality 0.01" in page.inner_text("#command")
    assert float(page.get_attribute("#chosen", "height")) < float(whole)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_nobody_is_shut_out(browser: Any, folder: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # the page's policy allows no foreign script, which axe is
    page, wrong = opened(
        browser, folder, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out sideways
    assert wrong == []
    found = Axe().run(page).response["violations"]
    assert [(entry["id"], entry["impact"], entry["nodes"][0]["html"]) for entry in found] == []


def test_texts_stand_in_the_direction_of_their_script(browser: Any, folder: Path) -> None:
    page, wrong = opened(browser, folder)
    texts = page.locator("p.text")
    shown = {texts.nth(place).text_content() for place in range(texts.count())}
    assert '<script>alert("1")</script>' in shown
    hebrew = page.locator("p.text", has_text="שלום").first
    assert hebrew.evaluate("element => getComputedStyle(element).direction") == "rtl"
    assert wrong == []
