"""Pages of texts in a browser: a click chooses a class, the pointer shows a value, no width is too small, nothing runs.

Needs Chromium and its driver, and selenium, as ``test_plots_plotly_page.py`` does; ``nox -s browser`` runs both.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from text_results import HOSTILE, review, text_result

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def driver():
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield started
    started.quit()


@pytest.fixture
def opened(driver, tmp_path):
    def open_page(result, rows=0):
        result.text(rows).save(tmp_path / "why.html")
        driver.get((tmp_path / "why.html").as_uri())
        return driver

    yield open_page
    assert driver.get_log("browser") == []


def seen(driver) -> list[str]:
    """Read the words of all blocks that are shown."""
    return [word.text for word in driver.find_elements(By.CSS_SELECTOR, ".w") if word.is_displayed()]


def test_a_click_chooses_the_class_of_one_row(opened):
    driver = opened(review(), [0, 1])
    facts = [element.text for element in driver.find_elements(By.CSS_SELECTOR, ".facts") if element.is_displayed()]
    assert facts[0].split()[:2] == ["prediction", "7.25"]
    assert facts[1].split()[:2] == ["prediction", "1.875"]
    driver.find_element(By.XPATH, "//label[text()='bad']").click()  # of the first row
    facts = [element.text for element in driver.find_elements(By.CSS_SELECTOR, ".facts") if element.is_displayed()]
    assert [fact.split()[1] for fact in facts] == ["-2.875", "1.875"]
    assert seen(driver)[:3] == ["[CLS]", "unbelievable", "plot"]
    driver.find_element(By.XPATH, "//label[text()='all together']").click()
    cells = [cell for cell in driver.find_elements(By.CSS_SELECTOR, "td[data-v]") if cell.is_displayed()]
    assert len(cells) == 12


def test_the_pointer_shows_a_value(opened):
    driver = opened(review())
    word = next(word for word in driver.find_elements(By.CSS_SELECTOR, ".w") if word.text == "unbelievable")
    ActionChains(driver).move_to_element(word).perform()
    told = driver.execute_script("return getComputedStyle(arguments[0], '::after').content", word)
    assert told == '"unbelievable: 2 (un 1, ##believ 2, ##able -1)"'


@pytest.mark.parametrize("width", [1400, 800, 390])
def test_no_page_is_wider_than_its_window(opened, width):
    words = ["characteristically", "film", "x" * 90, *["plot"] * 40]
    values = np.random.default_rng(1).normal(size=(1, len(words), 12))
    driver = opened(text_result([words], values, [f"a class of a long name {n}" for n in range(12)]))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    for label in ("a class of a long name 3", "all together"):
        driver.find_element(By.XPATH, f"//label[text()='{label}']").click()
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("dark", [False, True])
def test_white_is_0_in_light_and_in_dark(opened, dark):
    driver = opened(review())
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    code = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
    assert driver.execute_script(code, "body") == ("rgb(21, 21, 21)" if dark else "rgb(255, 255, 255)")
    assert driver.execute_script(code, ".paper") == "rgb(255, 255, 255)"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_hostile_texts_stay_texts(opened):
    driver = opened(text_result([HOSTILE], np.ones((1, len(HOSTILE), len(HOSTILE))), HOSTILE))
    assert driver.execute_script("return document.scripts.length + document.images.length") == 0
    assert "<script>alert(1)</script>" in seen(driver)
    assert len(driver.find_elements(By.CSS_SELECTOR, "form")) == 1
