"""A real browser that opens a page in a sandboxed frame and measures it there.

The frame is what a tracking server or a notebook puts around someone else's HTML. Debian calls
the browser ``chromium``; tests that need it are skipped where there is none.
"""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")

FRAME = '<iframe sandbox="allow-same-origin" style="width:%dpx" srcdoc="%s"></iframe>'
MEASURE = """
<!doctype html><html><head><style>body{margin:0} iframe{border:0;height:4000px}</style></head><body>
%s
<script>
const measured = (frame) => {
  const inner = frame.contentDocument, root = inner.documentElement;
  const style = (one) => inner.defaultView.getComputedStyle(one);
  const texts = [...inner.querySelectorAll("svg text")];
  const shown = texts.filter((one) => one.getClientRects().length);
  const sizes = shown.map((one) => one.getScreenCTM().a * parseFloat(style(one).fontSize));
  return {
    width: root.clientWidth, needed: root.scrollWidth, smallest_px: Math.min(99, ...sizes),
    paper: style(inner.querySelector(".meshml-report")).backgroundColor,
    overflowing: [...inner.querySelectorAll("h1,h2,h3,p,dd,.band,.wait,.culprit")]
      .filter((one) => one.getBoundingClientRect().right > root.clientWidth + 0.5).length};
};
window.onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(measured);
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
};
</script></body></html>
"""

FLAGS = (
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the browser found: widths in CSS pixels, the ground's colour, and what sticks out."""

    width: int
    needed: int
    smallest_px: float
    paper: str
    overflowing: int


def measure(
    pages: Iterable[tuple[str, int]], *, folder: Path, dark: bool = False
) -> tuple[Measured, ...]:
    """Each page as laid out in a frame of its width that may not run scripts."""
    frames = [FRAME % (width, html.escape(page, quote=True)) for page, width in pages]
    dumped = dump_dom(MEASURE % "\n".join(frames), folder=folder, dark=dark)
    found = re.search(r"<pre>(\[.*?\])</pre>", dumped, re.DOTALL)
    assert found is not None, dumped[:2000]
    return tuple(Measured(**one) for one in json.loads(html.unescape(found[1])))


def dump_dom(document: str, *, folder: Path, dark: bool = False) -> str:
    """The document as the browser holds it once it has come to rest."""
    assert BROWSER is not None
    file = folder / "frame.html"
    file.write_text(document, encoding="utf-8")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [BROWSER, *FLAGS, *theme, profile, "--dump-dom", file.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout
