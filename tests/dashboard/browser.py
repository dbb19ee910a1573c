"""A real headless Chromium, driven by Debian's chromedriver; what it said and asked for is kept. Nothing is downloaded."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from mooseng_py.demo.harness import wait_until


@dataclass
class Browser:
    """One window on one dashboard."""

    driver: webdriver.Chrome
    origin: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def go(self, fragment: str) -> None:
        self.driver.get(f"{self.origin}/{fragment}")

    def find(self, selector: str, timeout_s: float = 15) -> WebElement:
        """The first element, once there is one that is shown."""

        def found() -> WebElement | None:
            shown = [element for element in self.all(selector) if element.is_displayed()]
            return shown[0] if shown else None

        element: WebElement = self._until(f"an element {selector}", found, timeout_s)
        return element

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until_text(self, selector: str, text: str, timeout_s: float = 15) -> None:
        """Wait until the element holds this text."""
        self._until(
            f"{text!r} in {selector}",
            lambda: any(text in (element.text or "") for element in self.all(selector)),
            timeout_s,
        )

    def text(self, selector: str = "body") -> str:
        return str(self.driver.find_element(By.CSS_SELECTOR, selector).text)

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def size(self, width: int, height: int) -> None:
        self.driver.set_window_size(width, height)

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert self.driver.save_screenshot(str(path))

    def take_logs(self) -> None:
        """Sort what Chromium logged: complaints of pages, and requests to other origins than the dashboard's."""
        for entry in self.driver.get_log("browser"):  # type: ignore[no-untyped-call]
            if entry["level"] in ("SEVERE", "WARNING"):
                self.complaints.append(entry["message"])
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                self.asked.append(url)
                if not url.startswith((self.origin + "/", "data:")) and urlsplit(url).scheme != "chrome":
                    self.elsewhere.append(url)

    def _until(self, what: str, check: Any, timeout_s: float) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        def calm() -> Any:
            try:
                return check()
            except StaleElementReferenceException:
                return None  # The page was patched between two questions.

        return wait_until(what, calm, timeout_s, every_s=0.1)


def require_chromium() -> tuple[str, str]:
    """Paths of browser and driver; the test is skipped where there are none."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its driver is on PATH: apt-get install chromium chromium-driver")
    return browser, driver


@contextlib.contextmanager
def browsing(origin: str, *, width: int = 1360, height: int = 900, dark: bool = False) -> Iterator[Browser]:
    """A window; its processes are gone afterwards."""
    browser, driver = require_chromium()
    options = Options()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root in a container there is none to be had
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *(["--force-dark-mode"] if dark else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment = {**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    window = webdriver.Chrome(options=options, service=Service(driver, env=environment))
    try:
        yield Browser(window, origin)
    finally:
        window.quit()
