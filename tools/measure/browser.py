"""A headless Chromium with the page in it."""

import contextlib
import pathlib

from harness import Failed

# Without these it asks for updates, and for its maker's hosts, at every start.
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def chromium(width=1400, height=950):
    """A browser with a profile of its own, for the length of a `with`. Failed where there is none."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as missing:
        raise Failed(f"{missing}; install python3-selenium") from missing
    if not pathlib.Path("/usr/bin/chromedriver").exists():
        raise Failed("there is no /usr/bin/chromedriver; install chromium-driver")
    options = webdriver.ChromeOptions()
    for option in QUIET:
        options.add_argument(option)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    try:
        browser.set_window_size(width, height)
        yield browser
    finally:
        browser.quit()
