"""The page in a real browser, opened from disk."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdc.report.page.document import write_page
from fastdc.sweep.store.results import Store
from tests.report.browser import Browser, needs_browser
from tests.report.test_report_page import Sweep, write_subset
from tests.report.test_report_page import sweep as sweep  # the fixture

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(sweep: Sweep, tmp_path: Path) -> Path:
    out = tmp_path / "page.html"
    write_page(sweep.store, sweep.folder, out)
    return out


SHOWN = (  # checkVisibility alone takes an SVG group of display: none for visible
    "[...document.querySelectorAll('{}')]"
    ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 0).length"
)


def choose(browser: Browser, name: str, text: str) -> None:
    browser.run(
        f"for (const s of document.querySelectorAll('select[name={name}]')) {{"
        f" s.selectedIndex = [...s.options].findIndex((o) => o.text === {text!r});"
        " s.dispatchEvent(new Event('change')); }"
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_opens_from_disk_without_network_or_errors(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.console == []
    assert browser.run("document.documentElement.scrollWidth") <= width  # tables scroll within themselves


def test_long_names_wrap(browser: Browser, tmp_path: Path) -> None:
    long = "a" * 300
    made = Sweep(tmp_path)
    made.add(long, 0, 40.0, subset="0f" * 6, arch=long, inferred=[long])
    made.add("random", 0, 40.0, protocol="soft")
    write_subset(tmp_path, f"x-{'0f' * 6}")
    write_page(made.store, tmp_path, tmp_path / "page.html")
    for width in (390, 1440):
        browser.open(tmp_path / "page.html", width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_policy_blocks_foreign_content(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }"
    )
    assert browser.run("window.ran") is None
    browser.run("{ const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i); }")
    assert browser.run("fetch('https://example.invalid/').catch(() => 0) && 1") == 1
    time.sleep(0.3)
    browser.run("1")  # collects pending events
    console = " ".join(browser.console)
    assert all(f"{kind}-src" in console for kind in ("script", "img", "connect"))


def test_filters(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows, whole = SHOWN.format(".board tbody tr"), browser.run(SHOWN.format(".board tbody tr"))
    assert whole == 10
    joins = SHOWN.format(".setup > .figures .join")
    assert browser.run(joins) >= 1  # points of a method at several IPC
    choose(browser, "ipc", "50")
    assert browser.run(rows) == 1
    assert browser.run(joins) == 0
    assert browser.run("document.getElementById('count').textContent") == "1 row"
    choose(browser, "protocol", "soft-small")  # has no IPC 50
    assert browser.run(rows) == 0
    assert browser.run(SHOWN.format("#nothing")) == 1
    choose(browser, "ipc", "all")
    assert browser.run(SHOWN.format("#nothing")) == 0
    choose(browser, "ipc", "10")
    assert browser.run(rows) == 1
    choose(browser, "protocol", "all")
    choose(browser, "arch", "resnet18")
    assert browser.run(rows) == 1
    assert (
        browser.run("[...document.querySelectorAll('.board tbody th')].find((e) => e.checkVisibility()).innerText")[:9]
        == "</script>"
    )


def test_methods_can_be_hidden_and_shown(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = SHOWN.format(".board tbody tr")
    whole, random = browser.run(rows), SHOWN.format('[data-m="0"]')
    assert browser.run(random) >= 3  # its row and its points
    browser.run("document.querySelector('[data-toggle=\"0\"]').click()")
    assert browser.run(random) == 0
    assert 0 < browser.run(rows) < whole
    browser.run("document.getElementById('everything').click()")
    assert browser.run(rows) == whole


def test_a_touched_point_shows_its_numbers(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    browser.run(
        "document.querySelector('svg.chart .mark .touch').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    notes = browser.run("[...document.querySelectorAll('.note-text')].map((e) => e.textContent)")
    assert sum("IPC 10: " in text for text in notes) == 1


def test_images_are_decoded_and_chosen_by_class(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth === 28)")
    assert browser.run(SHOWN.format("img")) == 2 * 4  # the first class
    choose(browser, "class", "all")
    assert browser.run(SHOWN.format("img")) == 2 * 12


def test_page_of_an_empty_store(browser: Browser, tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        write_page(store, tmp_path, tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert browser.console == []
    assert "No results yet" in browser.run("document.body.innerText")
