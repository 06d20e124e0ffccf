"""The page in a real browser, opened from disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdc.report.page import write_page
from tests.report.browser import Browser, needs_browser
from tests.report.test_report_page import Sweep
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


SHOWN = "[...document.querySelectorAll('{}')].filter((e) => e.checkVisibility()).length"


def choose(browser: Browser, name: str, text: str) -> None:
    browser.run(
        f"{{ const s = document.querySelector('select[name={name}]');"
        f" s.selectedIndex = [...s.options].findIndex((o) => o.text === {text!r});"
        " s.dispatchEvent(new Event('change')); }"
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_opens_from_disk_without_network_or_complaint(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.console == []
    assert browser.run("document.documentElement.scrollWidth") <= width  # tables scroll within themselves


def test_the_policy_stops_what_is_not_of_the_page(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }"
    )
    assert browser.run("window.ran") is None
    assert any("Content Security Policy" in text for text in browser.console)


def test_filters(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows, whole = SHOWN.format(".board tbody tr"), browser.run(SHOWN.format(".board tbody tr"))
    assert whole == 10
    choose(browser, "ipc", "50")
    assert browser.run(rows) == 1
    assert browser.run("document.getElementById('count').textContent") == "1 row"
    choose(browser, "protocol", "soft-small")  # has no IPC 50
    assert browser.run(rows) == 0
    choose(browser, "ipc", "all")
    choose(browser, "ipc", "10")
    assert browser.run(rows) == 1
    choose(browser, "protocol", "all")
    choose(browser, "arch", "resnet18")
    assert browser.run(rows) == 1
    assert (
        browser.run("[...document.querySelectorAll('.board tbody th')].find((e) => e.checkVisibility()).innerText")[:9]
        == "</script>"
    )
