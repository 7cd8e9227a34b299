"""A report in a real browser: it draws, answers the pointer, and asks for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import kvae
from browser import Browser, browser, find_browser
from reports import EVIL, clouds, write_latents

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium here: apt-get install chromium"
)


class Page(NamedTuple):
    """A report, and what is on its map."""

    path: Path
    ids: list[str]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, feature_file: Path) -> Page:
    folder = tmp_path_factory.mktemp("browser")
    run = folder / "run"
    kvae.train(feature_file, run, epochs=2, batch_size=16, device="cpu", threads=1)
    sizes = [90, 60, 30]
    ids = [f"{EVIL}{i}" for i in range(180)]
    sources = [
        f"{name}.fa" for name, n in zip(("a", "b", EVIL), sizes, strict=True) for _ in range(n)
    ]
    latents = write_latents(folder / "latent.arrow", ids, sources, clouds(sizes))
    labels = folder / "labels.tsv"
    lines = [f"{name}\t{EVIL if i % 2 else 'even'}" for i, name in enumerate(ids)]
    labels.write_text("record\tgenus\n" + "\n".join(lines) + "\n")
    kvae.report(
        run, folder / "r.html", latents=latents, labels=labels, map="pca", device="cpu", threads=1
    )
    return Page(folder / "r.html", ids)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def shown(chromium: Browser, page: Page) -> Iterator[Browser]:
    """The page in a wide window. Whatever a test does, nothing may go wrong."""
    chromium.dark(False)
    chromium.open(page.path)
    chromium.run("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    chromium.frames()
    yield chromium
    assert chromium.problems == []
    asked = [address for address in chromium.requests if not address.startswith("data:")]
    assert asked == [page.path.resolve().as_uri()]


# Sums of the pixels say whether two pictures differ; how many there are, whether one is blank.
PICTURE = """(() => {
  const canvas = document.getElementById('map-canvas');
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext('2d', {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  const {data} = pen.getImageData(0, 0, copy.width, copy.height);
  let sum = 0, inked = 0;
  for (let i = 0; i < data.length; i += 4) {
    sum = (sum * 31 + data[i] + 3 * data[i + 1] + 7 * data[i + 2] + 11 * data[i + 3]) % 1000003;
    if (data[i + 3] > 120) inked++;
  }
  return [sum, inked];
})()"""
TIP = "document.getElementById('tip')"


def picture(shown: Browser) -> tuple[int, int]:
    total, inked = shown.run(PICTURE)
    return total, inked


def click(shown: Browser, selector: str) -> None:
    shown.run(f"document.querySelector({json.dumps(selector)}).click()")
    shown.frames()


def coloured_spot(shown: Browser) -> tuple[float, float]:
    """Where there is a row on the map, in the window."""
    x, y = shown.run(
        """(() => {
  const canvas = document.getElementById('map-canvas');
  const bounds = canvas.getBoundingClientRect();
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext('2d', {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  const {data} = pen.getImageData(0, 0, copy.width, copy.height);
  for (let i = 0; i < copy.width * copy.height; i++) {
    const x = bounds.x + (i % copy.width) * bounds.width / copy.width;
    const y = bounds.y + Math.floor(i / copy.width) * bounds.height / copy.height;
    if (data[4 * i + 3] > 190 && y > 120) return [x, y];
  }
})()"""
    )
    return x, y


def test_every_picture_is_drawn(shown: Browser) -> None:
    assert picture(shown)[1] > 1000
    charts = shown.run(
        "[...document.querySelectorAll('.chart')].map(c => [c.dataset.chart,"
        " c.querySelectorAll('svg path[d], svg rect.column').length])"
    )
    assert len(charts) > 10
    for name, marks in charts:
        assert marks > 0, name
    drawn = shown.run("[...document.querySelectorAll('.chart svg')].map(s => s.outerHTML).join()")
    assert "NaN" not in drawn
    assert "undefined" not in drawn
    # A model's graph keeps a light ground in the dark, where its letters would not be seen.
    assert shown.run("document.querySelectorAll('.graph svg text').length") > 10


def test_pointing_at_a_row_shows_its_name(shown: Browser, page: Page) -> None:
    at = coloured_spot(shown)
    shown.point(*at)
    assert shown.run(f"{TIP}.style.visibility") == "visible"
    assert shown.run(f"{TIP}.querySelector('b').textContent") in page.ids
    # Names are text, whatever they look like.
    assert shown.run(f"{TIP}.querySelectorAll('img, script').length") == 0
    told = shown.run(f"{TIP}.innerText")
    for name in ("bases", "length", "genus", "source file"):
        assert name in told
    shown.point(5, 5)
    assert shown.run(f"{TIP}.style.visibility") == "hidden"
    shown.drag(*at, 60, 40)


def test_the_legend_hides_and_shows_groups(shown: Browser) -> None:
    names = "[...document.querySelectorAll('.legend .item .name')].map(n => n.textContent)"
    assert shown.run(names) == [EVIL, "even"]
    before = picture(shown)
    click(shown, ".legend .item")
    without = picture(shown)
    assert without[0] != before[0]
    assert without[1] < before[1]
    assert shown.run("document.querySelector('.legend .item').ariaPressed") == "false"
    click(shown, ".legend .item")
    assert picture(shown) == before
    click(shown, ".legend .all")
    assert picture(shown)[1] < without[1]
    click(shown, ".legend .all")
    assert picture(shown) == before


def test_colours_can_be_chosen(shown: Browser) -> None:
    options = shown.run(
        "[...document.getElementById('map-colour').options].map(o => o.textContent)"
    )
    assert options == ["genus", "source file", "length"]
    seen = {picture(shown)[0]}
    for i in (1, 2):
        shown.run(
            f"(() => {{ const s = document.getElementById('map-colour'); s.value = '{i}';"
            " s.dispatchEvent(new Event('change')); })()"
        )
        shown.frames()
        seen.add(picture(shown)[0])
    assert len(seen) == 3
    assert shown.run("document.querySelectorAll('.ramp').length") == 1


def test_zooming_moving_and_finding(shown: Browser) -> None:
    home = picture(shown)
    click(shown, "#map-in")
    near = picture(shown)
    assert near[0] != home[0]
    x, y = shown.run(
        "(() => { const r = document.getElementById('map-over').getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    shown.drag(x, y, 80, 50)
    assert picture(shown)[0] != near[0]
    click(shown, "#map-reset")
    assert picture(shown) == home
    shown.run(
        "(() => { const f = document.getElementById('map-find'); "
        f"f.value = {json.dumps(EVIL + '17')}; f.dispatchEvent(new Event('input')); }})()"
    )
    shown.frames()
    # 17 and 170 to 179.
    assert shown.run("document.getElementById('map-found').textContent") == "11 found"
    assert picture(shown)[0] != home[0]


def test_pointing_at_a_curve_shows_its_values(shown: Browser) -> None:
    shown.run(
        "document.querySelector('[data-chart=curve-nats]')"
        ".scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    shown.frames()
    x, y = shown.run(
        "(() => { const r = document.querySelector('[data-chart=curve-nats] > svg')"
        ".getBoundingClientRect(); return [r.x + r.width - 14, r.y + r.height / 2]; })()"
    )
    shown.point(x, y)
    told = shown.run(f"{TIP}.innerText")
    for words in ("epoch 2", "validation", "training", "mean profile"):
        assert words in told


def test_dark_and_light(shown: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, drawn = shown.run(ground), picture(shown)
    click(shown, "#theme")
    dark = shown.run(ground)
    assert dark != light
    assert picture(shown)[0] != drawn[0]
    assert shown.run("getComputedStyle(document.querySelector('.graph')).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    click(shown, "#theme")
    assert (shown.run(ground), picture(shown)) == (light, drawn)
    # Without a word from the reader the page is what the system is.
    shown.run("delete document.documentElement.dataset.theme")
    shown.dark(True)
    assert shown.run(ground) == dark


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_no_width_makes_the_page_scroll_sideways(chromium: Browser, page: Page, width: int) -> None:
    chromium.open(page.path, width, 800, phone=width < 500)
    chromium.frames()
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("innerWidth") == width
    assert picture(chromium)[1] > 500
    assert chromium.problems == []


def test_a_finger_points_at_a_row(chromium: Browser, page: Page) -> None:
    chromium.open(page.path, 390, 844, phone=True)
    chromium.run(
        "document.querySelector('.plot').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    chromium.frames()
    chromium.tap(*coloured_spot(chromium))
    assert chromium.run(f"{TIP}.style.visibility") == "visible"
    assert chromium.run(f"{TIP}.querySelector('b').textContent") in page.ids
    left, right = chromium.run(
        f"(() => {{ const r = {TIP}.getBoundingClientRect(); return [r.left, r.right]; }})()"
    )
    assert 0 <= left < right <= 390
    chromium.tap(30, 100)
    assert chromium.run(f"{TIP}.style.visibility") == "hidden"


def test_printing_keeps_the_map_and_the_screen(shown: Browser) -> None:
    click(shown, "#theme")
    before = picture(shown)
    printed = shown.pdf()
    assert printed.startswith(b"%PDF-")
    # The map is in it as a picture, and the page is as it was.
    assert printed.count(b"/Subtype /Image") >= 1
    assert picture(shown) == before
    assert shown.run("document.documentElement.dataset.theme") == "dark"
    assert shown.run("document.querySelectorAll('.still').length") == 0


def test_a_name_cannot_become_code(shown: Browser) -> None:
    assert shown.run("document.querySelectorAll('img, iframe, object').length") == 0
    # Even if a script got in, the page's policy would not run it.
    shown.run(
        "(() => { const s = document.createElement('script');"
        " s.textContent = 'window.ran = true'; document.body.append(s); })()"
    )
    assert shown.run("window.ran === undefined")
    assert any("Content Security Policy" in text for text in shown.problems)
    shown.problems.clear()
