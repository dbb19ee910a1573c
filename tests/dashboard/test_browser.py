"""A real headless Chromium clicks through the dashboard of a real cluster. `make screenshots` keeps the pictures for the docs."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from mooseng_py.demo.harness import wait_until
from tests.dashboard.browser import Browser, browsing, require_chromium
from tests.dashboard.support import Dashboard

pytestmark = [pytest.mark.browser, pytest.mark.fuse, pytest.mark.slow]

SECTIONS = ["Cluster", "Chunks", "Rates", "Events", "Files"]
HOSTILE = [
    b"<img src=x onerror=alert(1)>",
    b"two\nlines",
    b"latin-\xff",
    b"w" * 255,
    b"<script>alert(2)</script>".replace(b"/", b"\\"),
]


@pytest.fixture(scope="module", autouse=True)
def _chromium() -> None:
    """Before a cluster is started for nothing."""
    require_chromium()


@pytest.fixture(scope="module")
def filled(board: Dashboard) -> Dashboard:
    """A cluster with something to look at."""
    mount = board.cluster.mount(1)
    for name in ("models", "data sets", "empty", "odd names"):
        (mount / name).mkdir()
    (mount / "models" / "weights.bin").write_bytes(os.urandom(150 << 20))
    (mount / "models" / "adapter.bin").write_bytes(os.urandom(40 << 20))
    (mount / "notes.md").write_text("# Notes\n")
    (mount / "latest").symlink_to("models")
    for odd in HOSTILE:
        with open(bytes(mount) + b"/odd names/" + odd, "wb") as file:
            file.write(b"x")
    for number in range(620):
        (mount / "data sets" / f"part {number}").touch()
    board.until_well()
    return board


@pytest.fixture
def browser(filled: Dashboard) -> Iterator[Browser]:
    """A window that must not have complained, nor asked anybody else, in the end."""
    with browsing(filled.origin) as window:
        yield window
        window.take_logs()
        assert window.complaints == []
        assert window.elsewhere == []
        assert window.asked


def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: to the docs when asked, else away."""
    return Path(os.environ.get("MOOSENG_TEST_SCREENSHOTS", tmp_path))


def test_every_section_is_a_click_away_and_shows_what_it_is_for(browser: Browser) -> None:
    browser.go("")
    browser.until_text("main", "All is well")
    shows = {
        "Cluster": ["Cluster map", "master-1", "chunkserver-3", "client-2", "leader", "follower", "Leader and terms"],
        "Chunks": ["Chunk health", "Whole", "Endangered", "Missing", "Placement", "chunkserver-1", "Every chunk is as it should be"],
        "Rates": ["Live rates", "Chunk bytes", "Name operations", "By node", "client-1"],
        "Events": ["Events", "Seen by this dashboard since"],
        "Files": ["models", "notes.md", "data sets"],
    }  # fmt: skip
    for section in [*SECTIONS, "Cluster"]:
        link = next(link for link in browser.all("nav a") if link.text == section)
        link.click()
        for text in shows[section]:
            browser.until_text("main", text)
        assert browser.find("nav a[aria-current='page']").text == section
        assert browser.driver.title == f"{section} · MooseNG"
    assert browser.text("#freshness") == "live"
    assert browser.text("#cluster-id")


def test_the_map_shows_states_in_words_and_not_by_colour_alone(browser: Browser) -> None:
    browser.go("#/cluster")
    browser.find("[data-node='master-1']")
    words = {
        card.get_attribute("data-node"): card.find_element("css selector", ".state").text
        for card in browser.all(".card")
    }
    assert sorted(word.split()[-1] for name, word in words.items() if name and name.startswith("master")) == [
        "follower",
        "follower",
        "leader",
    ]
    assert {words[f"chunkserver-{index}"].split()[-1] for index in (1, 2, 3)} == {"up"}
    assert {words[f"client-{index}"].split()[-1] for index in (1, 2, 3)} == {"ready"}


def test_files_are_browsed_sorted_filtered_and_told_where_they_lie(browser: Browser) -> None:
    browser.go("#/files/")
    browser.find("[data-entry='/models']").click()
    browser.until_text("#listing", "weights.bin")
    names = [link.text.split()[-1] for link in browser.all("[data-entry]")]
    assert names == ["adapter.bin", "weights.bin"]
    next(button for button in browser.all("button.sort") if button.text.startswith("Size")).click()
    next(button for button in browser.all("button.sort") if button.text.startswith("Size")).click()
    assert [link.text.split()[-1] for link in browser.all("[data-entry]")] == ["weights.bin", "adapter.bin"]
    browser.find("[data-entry='/models/weights.bin']").click()
    browser.until_text("#details", "150 MiB (157,286,400 bytes)")
    browser.until_text("#details", "3 chunks of up to 64 MiB")
    assert len(browser.all("#details td .copies .state.good")) == 9
    assert (browser.find("#details a.button").get_attribute("href") or "").endswith(
        "/download?path=/models/weights.bin"
    )
    browser.find("#filter").send_keys("adapt")
    wait_until("the filter", lambda: len(browser.all("[data-entry]")) == 1, timeout_s=5)
    browser.find(".crumbs a").click()
    browser.find("[data-entry='/latest']").click()
    browser.until_text("#details", "models (directory)")
    browser.find("#details a.button").click()
    browser.until_text("#listing", "adapter.bin")


def test_names_are_text_whatever_they_hold(browser: Browser) -> None:
    browser.go("#/files/odd%20names")
    browser.until_text("#listing", "<img src=x onerror=alert(1)>")
    for text in ("two\\x0alines", "latin-\\xff", "<script>alert(2)<\\script>", "w" * 255):
        browser.until_text("#listing", text)
    assert browser.script("return document.querySelectorAll('main img, main script').length") == 0
    browser.find("[data-entry*='img']").click()
    browser.until_text("#details h2", "<img src=x onerror=alert(1)>")
    browser.until_text("#details", "With its inode")
    browser.go("#/files/odd%20names?/odd%20names/latin-%FF")
    browser.until_text("#details h2", "latin-\\xff")
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_large_directory_is_loaded_in_parts_and_an_empty_one_says_so(browser: Browser) -> None:
    browser.go("#/files/data%20sets")
    browser.until_text("#listing", "500 entries so far")
    browser.find("button.more").click()
    browser.until_text("#listing", "620 entries")
    assert len(browser.all("[data-entry]")) == 620
    assert not browser.all("button.more:not([hidden])")
    browser.go("#/files/empty")
    browser.until_text("#listing", "This directory is empty")


def test_the_keyboard_is_enough(browser: Browser) -> None:
    browser.go("#/cluster")
    browser.until_text("main", "Cluster map")
    body = browser.find("body")
    body.send_keys(Keys.TAB)
    assert browser.script("return document.activeElement.textContent") == "Skip to content"
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.script("return document.activeElement.textContent") == "Chunks"
    # The page renews itself every two seconds; the focus stays, also on what is renewed.
    browser.script("document.querySelector('main .scroll').focus()")
    time.sleep(4.5)
    assert browser.script("return document.activeElement.matches('main .scroll')")
    browser.script("[...document.querySelectorAll('nav a')].find((link) => link.textContent === 'Chunks').focus()")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until_text("main", "Chunk health")


def test_colours_follow_the_button_and_are_kept(browser: Browser) -> None:
    browser.go("#/cluster")
    ground = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for _ in range(3):
        browser.find("#theme").click()
        seen[browser.find("#theme").get_attribute("aria-label")] = browser.script(ground)
    assert len(seen) == 3
    assert seen["Colours: dark"] != seen["Colours: light"]
    while browser.find("#theme").get_attribute("aria-label") != "Colours: dark":
        browser.find("#theme").click()
    browser.driver.refresh()
    assert browser.script(ground) == seen["Colours: dark"]


def test_nothing_is_wider_than_a_phone(browser: Browser) -> None:
    browser.size(390, 844)
    for section in (
        "cluster",
        "chunks",
        "rates",
        "events",
        "files/",
        "files/odd%20names",
        "files/models?/models/weights.bin",
    ):
        browser.go(f"#/{section}")
        wait_until("a section", lambda: browser.all("main section, main .browser"), timeout_s=10)
        time.sleep(0.5)
        assert browser.script("return document.documentElement.scrollWidth <= innerWidth"), section


def test_a_path_that_is_not_there_says_so_and_the_way_back_works(filled: Dashboard) -> None:
    with browsing(filled.origin) as browser:
        browser.go("#/files/none")
        browser.until_text("main", "There is no such file or directory")
        browser.find(".crumbs a").click()
        browser.until_text("#listing", "notes.md")
        browser.take_logs()
        # Chromium itself writes a refused request to the console; nothing else may stand there.
        assert all("404" in complaint for complaint in browser.complaints)
        assert browser.elsewhere == []


def test_an_open_page_follows_a_change_of_leader(browser: Browser, filled: Dashboard) -> None:
    browser.go("#/cluster")
    leader = str(filled.until_well()["leader"]["name"])
    browser.until_text(".tiles", leader)
    filled.cluster.kill(leader)
    browser.until_text(f"[data-node='{leader}']", "silent")
    browser.until_text(f"[data-node='{leader}']", "no answer for")
    browser.until_text(".verdict", f"{leader} does not answer")
    filled.cluster.restart(leader)
    browser.until_text(".verdict", "All is well", timeout_s=30)
    browser.go("#/events")
    browser.until_text(".events", f"{leader} answers again")


def test_a_page_whose_dashboard_has_died_says_so_and_comes_back(filled: Dashboard) -> None:
    with browsing(filled.origin) as browser:
        browser.go("#/cluster")
        browser.until_text("main", "Cluster map")
        filled.cluster.kill("dashboard")
        browser.until_text("#alarm", "This dashboard does not answer", timeout_s=20)
        assert "master-1" in browser.text("main")  # what was known stays
        filled.cluster.restart("dashboard")
        wait_until("the page is well again", lambda: not browser.all("#alarm:not([hidden])"), timeout_s=40)
        browser.until_text("#freshness", "live", timeout_s=30)


def test_pictures_for_the_docs(browser: Browser, filled: Dashboard, tmp_path: Path) -> None:
    """The sections with something going on, light and dark."""
    folder = pictures(tmp_path)
    stop = threading.Event()
    worker = threading.Thread(target=work, args=(filled.cluster.mount(2), stop))
    worker.start()
    try:
        time.sleep(15)
        take_pictures(browser, folder)
    finally:
        stop.set()
        worker.join()


def work(mount: Path, stop: threading.Event) -> None:
    """Something for the rates to show."""
    for turn in itertools.count():
        if stop.wait(0.1):
            return
        (mount / f"batch-{turn % 3}.bin").write_bytes(os.urandom((2 + turn % 4) << 20))
        # Past the kernel's pages, so that chunkservers are asked.
        handle = os.open(mount / "models" / "weights.bin", os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(handle, (8 + turn % 8) << 20, (turn % 9) << 24)
        finally:
            os.close(handle)
        for index in range(20):
            (mount / "data sets" / f"part {index}").write_text(str(turn))


def take_pictures(browser: Browser, folder: Path) -> None:
    browser.size(1360, 1140)
    for section, theme, name in (("cluster", "light", "dashboard-cluster"), ("rates", "dark", "dashboard-rates"), ("files/models?/models/weights.bin", "light", "dashboard-files")):  # fmt: skip
        browser.go(f"#/{section}")
        browser.script("document.documentElement.dataset.theme = arguments[0]", theme)
        browser.until_text(
            "main", "Where it lies" if "files" in section else "Cluster map" if section == "cluster" else "By node"
        )
        time.sleep(1)
        path = folder / f"{name}.png"
        browser.screenshot(path)
        assert 10_000 < path.stat().st_size < 300 << 10
