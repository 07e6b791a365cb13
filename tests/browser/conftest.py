"""A page in a real browser: Debian's chromium without a window, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEIGHT = 900
SMALLEST_TEXT = 9
"""CSS pixels, after the scaling of a drawing."""

MEASURE = (Path(__file__).parent / "measure.js").read_text()


@dataclass(frozen=True)
class Look:
    """What a browser found in a page at one window width and colour scheme.

    Attributes:
        errors: Console errors, uncaught exceptions and failed requests.
        requests: Addresses that were asked for, the page's own left out.
        cut: Elements that hide a part of their text, or that a drawing cuts.
        sideways: Elements that must be scrolled sideways, the page itself included.
        small: Text below ``SMALLEST_TEXT``.
        barriers: Serious and critical findings of axe-core.
    """

    errors: tuple[str, ...]
    requests: tuple[str, ...]
    cut: tuple[str, ...]
    sideways: tuple[str, ...]
    small: tuple[str, ...]
    barriers: tuple[str, ...]

    @property
    def foreign(self) -> list[str]:
        """Return the requests that left this machine's loopback, inline data left out."""
        local = {"127.0.0.1", None}
        return [url for url in self.requests if urlsplit(url).hostname not in local]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install --group browser"
    )
    pytest.importorskip(
        "axe_playwright_python", reason="needs axe-core: pip install --group browser"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def look(chromium: Any) -> Callable[..., Look]:
    """The function that opens an address at a width, light or dark, and says what it found."""

    def open_page(url: str, *, width: int = 1200, dark: bool = False) -> Look:
        context = chromium.new_context(
            viewport={"width": width, "height": HEIGHT},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        try:
            return _looked_at(context.new_page(), url)
        finally:
            context.close()

    return open_page


def _looked_at(page: Any, url: str) -> Look:
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    if not url.startswith("file:"):
        page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = page.evaluate(MEASURE, SMALLEST_TEXT)
    return Look(
        errors=tuple(errors),
        requests=tuple(asked for asked in requests if asked != url),
        cut=tuple(found["cut"]),
        sideways=tuple(found["sideways"]),
        small=tuple(found["small"]),
        barriers=_barriers(page),
    )


def _barriers(page: Any) -> tuple[str, ...]:
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return tuple(
        f"{violation['id']} ({violation['impact']}): {node['html'][:200]}"
        for violation in violations
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    )
