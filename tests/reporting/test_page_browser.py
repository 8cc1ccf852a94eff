"""The page in a browser: filtered, sorted, opened and closed by keyboard, on a phone, printed, without the network."""

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecgjax.reporting.page import write_page

from .test_page import figure, small_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs Chromium and its driver (Debian: apt install chromium chromium-driver)"
)


class Browser:
    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shown(self) -> list[str]:
        script = (
            "return [...document.querySelectorAll('#results tbody tr')].filter(r => !r.hidden).map(r => r.innerText)"
        )
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def opened(self) -> str:
        """Waits for the dialog; returns its text."""
        WebDriverWait(self.driver, 20).until(lambda _: self.one("#cell-body").text)
        return self.one("#cell").text

    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("page")
    report = small_report()
    hostile = "<img src=x onerror=document.title='broken'>"
    for row in report["rows"]:
        row["labels"] = {**row["labels"], hostile: {"value": 0.5, "low": 0.4, "high": 0.6, "known": 9, "positives": 4}}
    write_page(report, [figure(folder)], folder / "index.html")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "saved")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver, (folder / "index.html").as_uri())
    finally:
        driver.quit()


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    started.size(1280, 900)
    started.driver.get("about:blank")
    started.driver.get_log("performance")
    started.driver.get(started.address)
    yield started
    assert started.driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in started.driver.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # Data addresses are inside the file, blobs made by it.
    others = [url for url in requests if not url.startswith((started.address, "data:", "blob:", "about:"))]
    assert others == []
    assert any(url.startswith(started.address) for url in requests)  # requests are seen at all


def test_filters_narrow_the_table_and_are_kept_in_the_address(browser: Browser) -> None:
    everything = len(browser.shown())
    Select(browser.one("select[name=task]")).select_by_visible_text("PTB-XL (super)")
    assert len(browser.shown()) == 8 * 3 + 2
    Select(browser.one("select[name=mode]")).select_by_visible_text("frozen encoder")
    assert len(browser.shown()) == 8
    browser.one("#search").send_keys("ecg-jepa")
    (line,) = browser.shown()
    assert "ECG-JEPA" in line
    assert browser.one("#shown").text.startswith(f"1 of {everything} results (task: PTB-XL (super); mode: frozen")
    address = browser.driver.current_url
    browser.driver.get("about:blank")
    browser.driver.get(address)
    assert len(browser.shown()) == 1
    browser.one("#filters button[type=reset]").click()
    WebDriverWait(browser.driver, 10).until(lambda _: len(browser.shown()) == everything)
    assert "#" not in browser.driver.current_url


def test_columns_sort_both_ways_by_number(browser: Browser) -> None:
    head = browser.one("#results th.value")
    button = head.find_element(By.TAG_NAME, "button")
    script = "return [...document.querySelectorAll('#results tbody td[data-v].n:not(.wide)')].map(c => c.dataset.v)"
    for direction, sign in (("ascending", 1), ("descending", -1)):
        button.send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == direction
        values = [float(value) for value in browser.driver.execute_script(script)[::2]]
        assert values == sorted(values, key=lambda value: sign * value)


def test_a_value_opens_and_closes_by_keyboard(browser: Browser) -> None:
    button = browser.one("#overview button.open")
    browser.driver.execute_script("arguments[0].focus()", button)
    browser.press(Keys.ENTER)
    words = browser.opened()
    assert "ECG-CPC on PTB, fine-tuned" in words
    for expected in (
        "ptb_0",
        "Against the others, fine-tuned",
        "p by DeLong",
        "By DeLong's closed form",
        "How it was made: runs/ecg_cpc/ptb/finetune",
    ):
        assert expected in words
    assert "<img src=x onerror=" in words
    assert browser.all("#cell img") == []
    assert browser.focused().get_attribute("id") == "cell-title"
    for _ in range(12):  # the focus stays inside
        browser.press(Keys.TAB)
        inside = "return document.activeElement === document.body || !!document.activeElement.closest('#cell')"
        assert browser.driver.execute_script(inside)
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert not browser.one("#cell").is_displayed()
    assert browser.focused() == button
    assert browser.driver.title == "10 ECG models on 18 tasks"


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser) -> None:
    browser.press(Keys.TAB)
    assert browser.focused().text == "Skip to the results"
    assert browser.focused().is_displayed()
    seen = set()
    for _ in range(40):
        browser.press(Keys.TAB)
        outline = browser.driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        seen.add(browser.focused().tag_name)
    assert {"a", "summary", "button", "div"} <= seen


def test_labels_are_searched_and_sorted(browser: Browser) -> None:
    browser.one("#results tbody button.open").click()
    browser.opened()
    names = "#cell-body table:first-of-type tbody tr"
    first = browser.all("#cell-body .scroll")[0]
    first.find_elements(By.CSS_SELECTOR, "thead button")[1].click()
    cells = [line.find_elements(By.TAG_NAME, "td")[0].text for line in first.find_elements(By.CSS_SELECTOR, "tbody tr")]
    known = [float(cell) for cell in cells if cell != "–"]
    assert known == sorted(known)
    assert cells[-1] == "–"  # the label without a positive is last
    # The drawn scale holds every interval, also where a model is worse than chance.
    texts = [td.text for td in first.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(3)")]
    lows = [float(text[1:].split(",")[0]) for text in texts if text != "–"]
    scale = first.find_elements(By.CSS_SELECTOR, "thead th")[3].text
    assert float(scale.split(" to ")[0]) <= min(lows) < 0.5
    assert browser.all(names)
    browser.one("#close").click()
    assert not browser.one("#cell").is_displayed()


def test_saved_json_is_a_report(browser: Browser, started: Browser) -> None:
    browser.one("#save-json").click()
    saved = Path(started.address.removeprefix("file://")).parent / "saved" / "results.json"
    end = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < end:
        time.sleep(0.05)
    found = json.loads(saved.read_text("utf-8"))
    expected = small_report()
    assert set(found) == set(expected)
    label = next(iter(expected["rows"][0]["labels"]))
    assert found["rows"][0]["labels"][label] == pytest.approx(expected["rows"][0]["labels"][label], abs=1e-5)


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_never_scrolls_sideways(browser: Browser, width: int) -> None:
    browser.size(width, 700)
    browser.driver.get(browser.address)
    sizes = "return [document.documentElement.scrollWidth, innerWidth]"
    assert browser.driver.execute_script(sizes) == [width, width]
    browser.driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.driver.execute_script(sizes) == [width, width]
    button = browser.one("#results tbody button.open")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    browser.opened()
    sizes = "const d = document.querySelector('#cell'); return d.scrollWidth - d.clientWidth"
    assert browser.driver.execute_script(sizes) <= 0
    cells = (
        "return [...document.querySelectorAll('#results tbody tr:first-child > *')].filter(c => c.offsetWidth).length"
    )
    assert browser.driver.execute_script(cells) == 4  # task, model, value, rank


def test_print_shows_the_filters_as_text_and_everything_folded(browser: Browser) -> None:
    Select(browser.one("select[name=task]")).select_by_visible_text("SPH")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.one("#filters").is_displayed()
    assert not browser.one("nav").is_displayed()
    assert "task: SPH" in browser.one("#shown").text
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.all("main details:not([open])") == []


def test_dark_and_light_differ(browser: Browser) -> None:
    found = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        found[scheme] = browser.driver.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found["light"][1] == "rgb(255, 255, 255)"
    assert found["dark"][1] == "rgb(20, 23, 28)"
    assert found["dark"][0] != found["light"][0]


def test_without_a_script_tables_and_figures_are_there(browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.driver.get(browser.address)
    words = browser.one("body").text
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "need JavaScript" in words
    assert "PTB-XL (super)" in words
    assert not browser.one("#filters").is_displayed()
    assert browser.one("figure img").is_displayed()
