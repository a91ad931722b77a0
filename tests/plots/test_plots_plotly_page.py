"""Pages in a browser: controls are there, a click on them does what they say, and what is drawn is where it should be.

Needs Chromium and its driver (Debian: ``apt-get install chromium chromium-driver``) and selenium; ``nox -s browser``
runs these tests. Elsewhere they are skipped.
"""

from __future__ import annotations

import io
import re
import shutil

import numpy as np
import pytest
from matplotlib.image import imread
from result_models import batch, mixed, single
from text_results import text_result

from innsight_py import Converter, run_grad
from innsight_py.plots.plotly_traces import QUANTILE_LABELS

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.action_builder import ActionBuilder  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
MINUS = "\N{MINUS SIGN}"  # which plotly writes
READY = "return !!(document.querySelector('.plotly-graph-div') || {})._fullLayout"


class Page:
    """A saved picture, opened."""

    def __init__(self, driver, p, path):
        self.driver, self.figure = driver, p.figure
        p.save(path)
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.set_window_size(int(p.figure.layout.width) + 60, int(p.figure.layout.height) + 300)
        driver.get(path.as_uri())
        self.wait(lambda: driver.execute_script(READY))
        self.settle()

    def wait(self, condition):
        return WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def settle(self):
        """Wait until the browser has drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 100)))"
        )

    def js(self, code: str, *arguments):
        return self.driver.execute_script(
            f"const page = document.querySelector('.plotly-graph-div'); {code}", *arguments
        )

    def all(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def boxes(self, selector: str) -> np.ndarray:
        """Read left, right, top and bottom of what is drawn and matches."""
        code = "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())"
        code += ".map(r => [r.left, r.right, r.top, r.bottom])"
        return np.array(self.driver.execute_script(code, selector)).reshape(-1, 4)

    def menus(self) -> list[str]:
        """Read what the controls show but for the slider, in their order."""
        code = """const kinds = ['select', 'input[type=search]'].map(kind => '.innsight-controls ' + kind);
            const shown = e => e.options ? e.options[e.selectedIndex].text : e.value;
            return [...document.querySelectorAll(kinds.join())].map(shown)"""
        return self.driver.execute_script(code)

    def choose(self, number: int, label: str):
        """Choose an entry of a menu, counted from the left."""
        Select(self.all(".innsight-controls select")[number]).select_by_visible_text(label)
        self.wait(lambda: self.menus()[number] == label)
        self.settle()

    def fit(self, width: int, dark: bool = False, height: int = 900):
        """Make the window as wide as that of a device, which likes dark pages or not."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.settle()

    def visible(self, start: str) -> list[str]:
        names = self.js("return page._fullData.filter(trace => trace.visible === true).map(trace => trace.name)")
        return [name for name in names if name.startswith(start)]

    def point(self, x: float, y: float):
        """Move the pointer to a place of the screen."""
        action = ActionBuilder(self.driver)
        action.pointer_action.move_to_location(int(x) - 3, int(y) - 3).pause(0.05).move_to_location(int(x), int(y))
        return action

    def hover(self, x: float, y: float) -> tuple[list[str], list[str]]:
        """Put the pointer somewhere and read the lines of the box there, and of the one beside it."""
        self.point(x, y).perform()
        ActionChains(self.driver).pause(0.1).perform()
        (shown,) = self.wait(lambda: [box for box in self.all(".hoverlayer .hovertext") if box.is_displayed()])
        code = """const lines = t => [...t.querySelectorAll('tspan.line')].map(line => line.textContent);
            return [...arguments[0].querySelectorAll('text')].map(t => t.querySelector('tspan.line') ? lines(t) :
                [t.textContent])"""
        texts = [[line.replace(MINUS, "-") for line in text] for text in self.driver.execute_script(code, shown)]
        (beside,) = [text for text in texts if not any(":" in line for line in text)]
        (main,) = [text for text in texts if text is not beside]
        return main, beside

    def at(self, number: str, x: float, y: float) -> tuple[float, float]:
        """Return where on the screen a place of a panel is."""
        code = """const l = page._fullLayout, r = page.getBoundingClientRect(), x = l['xaxis' + arguments[0]],
            y = l['yaxis' + arguments[0]];
            return [r.left + x._offset + x.l2p(arguments[1]), r.top + y._offset + y.l2p(arguments[2])]"""
        return tuple(self.js(code, number, float(x), float(y)))

    def colour(self, x: float, y: float) -> np.ndarray:
        picture = imread(io.BytesIO(self.driver.get_screenshot_as_png()))
        scale = picture.shape[1] / self.driver.execute_script("return window.innerWidth")
        return picture[int(y * scale), int(x * scale), :3]


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
def page(driver, tmp_path):
    def opened(p) -> Page:
        return Page(driver, p, tmp_path / "page.html")

    yield opened
    severe = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not [entry for entry in severe if "favicon" not in entry["message"]]


def everything():
    """Explain a model with a table, a signal and an image for two outputs."""
    converter = mixed()
    result = run_grad(converter, batch(converter, 12), output_idx=[[0, 2], None, None], times_input=True)
    return result, [[0, 2], None, None]


def crosses(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(
        min(one[1], other[1]) - max(one[0], other[0]) > 0.5 and min(one[3], other[3]) - max(one[2], other[2]) > 0.5
    )


def test_controls_are_there(page):
    result, nodes = everything()
    shown = page(result.plot_global(output_idx=nodes, ref_data_idx=3, as_plotly=True))
    assert shown.menus() == ["Default", "Boxplot", "data_4", "Heatmap"]
    captions = [found.text for found in shown.all(".innsight-controls label > span")]
    assert captions == ["Colorscale", "1D Plot Type", "Data point", "2D Plot Type", "Quantile"]
    (slider,) = shown.all(".innsight-controls output")
    assert slider.text == "median"
    assert not shown.all(".updatemenu-header, .slider-container")
    panels = shown.boxes(".bglayer-above .bg, .draglayer .nsewdrag")
    assert len(panels) >= 6
    assert shown.boxes(".innsight-controls label")[:, 3].max() < panels[:, 2].min()
    single_instances = page(result.plot(output_idx=nodes, as_plotly=True))
    assert single_instances.menus() == ["Default", "Heatmap"]
    assert not single_instances.all(".innsight-controls output")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 390])
@pytest.mark.parametrize("view", ["instances", "together", "text"])
def test_nothing_is_out_of_sight(page, view, width, dark):
    result, nodes = everything()
    if view == "text":
        p = text_result([["a", "long", "text"] * 20] * 2, np.ones((2, 60, 3)), ["x", "y", "z"]).plot(
            [0, 1], output_idx=[0, 1, 2], as_plotly=True
        )
    else:
        draw = result.plot if view == "instances" else result.plot_global
        p = draw(output_idx=nodes, as_plotly=True)
    shown = page(p)
    shown.fit(width, dark)
    ends = shown.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert ends == [width, width]
    everything_drawn = shown.boxes(
        ".innsight-controls label, .xtick text, .ytick text, .annotation-text, .barlayer .point path, .cbaxis text, "
        ".draglayer .nsewdrag"
    )
    assert len(everything_drawn) > 10
    assert everything_drawn[:, 0].min() >= 0
    assert everything_drawn[:, 1].max() <= width
    height = shown.js("return page._fullLayout.height")
    assert shown.boxes(".plotly-graph-div").max() >= height > 0
    place = shown.boxes(".main-svg")[0]
    corner = shown.colour(place[0] + 3, place[2] + 3)
    assert (corner < 0.3).all() if dark else (corner == 1).all()


def test_panels_wrap(page):
    names = ["bill length", "bill depth", "flipper length", "body mass"]
    result = run_grad(single(4, input_names=names), np.ones((2, 4)), output_idx=[0, 1, 2])
    shown = page(result.plot([0, 1], output_idx=[0, 1, 2], as_plotly=True))
    columns = {}
    for width in (1400, 800, 390):
        shown.fit(width)
        panels = shown.boxes(".draglayer .nsewdrag")
        assert len(panels) == 6
        columns[width] = len(np.unique(panels[:, 0].round()))
        rows = len(np.unique(panels[:, 2].round()))
        assert rows == 2 * -(-3 // columns[width])
    assert columns == {1400: 3, 800: 2, 390: 1}
    shown.fit(1400)
    assert len(np.unique(shown.boxes(".draglayer .nsewdrag")[:, 0].round())) == 3


def test_dark_pages(page):
    result, nodes = everything()
    shown = page(result.plot_global(output_idx=nodes, as_plotly=True))
    colours = "const l = page._fullLayout; return [l.paper_bgcolor, l.plot_bgcolor, l.xaxis.tickfont.color]"
    scales = "return JSON.stringify(page._fullLayout.coloraxis2.colorscale)"
    shown.fit(1400)
    light, scale = shown.js(colours), shown.js(scales)
    shown.choose(1, "Violin")
    shown.fit(1400, dark=True)
    dark = shown.js(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert shown.js(scales) == scale  # a value has the same colour everywhere
    assert len(shown.all(".violinlayer path.violin")) == 2 * (3 + 4)  # what was chosen stays
    for name, expected in (("light", light), ("dark", dark), ("auto", dark)):  # as the theme of the documentation does
        shown.driver.execute_script("document.body.dataset.theme = arguments[0]", name)
        shown.settle()
        assert shown.js(colours) == expected
    shown.fit(1400)
    assert shown.js(colours) == light


def test_every_instance_can_be_marked(page):
    data = np.random.default_rng(0).normal(size=(344, 4))
    result = run_grad(single(4), data, output_idx=[0, 1], times_input=True)
    shown = page(result.plot_global(output_idx=[0, 1], individual_max=344, as_plotly=True))
    (field,) = shown.all(".innsight-controls input[type=search]")
    assert len(shown.all(".innsight-controls datalist option")) == 345
    values = np.abs(result.get_result())
    for typed, row in (("data_344", 343), ("200", 199), ("DATA_1", 0)):
        field.send_keys(Keys.CONTROL + "a", Keys.NULL, typed, Keys.TAB)
        shown.wait(lambda row=row: shown.visible("data point") == [f"data point data_{row + 1}"] * 2)
        shown.settle()
        heights = shown.js("return page.data.filter(t => t.name.startsWith('data point')).map(t => [...t.y])")
        np.testing.assert_allclose(np.array(heights, float)[:, ::4], values[row].T, rtol=1e-5)
        assert shown.menus()[-1] == f"data_{row + 1}"
    forward = [button for button in shown.all(".innsight-controls button") if button.text == "\u203a"]
    forward[0].click()
    shown.wait(lambda: shown.visible("data point") == ["data point data_2"] * 2)
    field.send_keys(Keys.CONTROL + "a", Keys.NULL, "data_345", Keys.TAB)
    shown.settle()
    assert shown.driver.execute_script("return !arguments[0].checkValidity()", field)
    assert shown.visible("data point") == ["data point data_2"] * 2  # nobody has that name
    field.send_keys(Keys.CONTROL + "a", Keys.NULL, Keys.DELETE, Keys.TAB)
    shown.wait(lambda: not shown.visible("data point"))


def test_changes_of_the_figure_stay(page):
    p = run_grad(single(4), np.ones((1, 4)), output_idx=[0, 1]).plot(output_idx=[0, 1], as_plotly=True)
    p.figure.update_layout(title="a title", plot_bgcolor="rgb(1,2,3)")
    p.figure.update_yaxes(range=[-9, 9])
    p.figure.add_annotation(text="a note", x=0.5, y=0.5, showarrow=False)
    p.figure.update_layout(updatemenus=[*p.figure.layout.updatemenus, {"type": "buttons", "name": "mine",
                           "buttons": [{"label": "mine", "method": "relayout", "args": [{}]}]}])  # fmt: skip
    shown = page(p)
    for width in (1400, 390):
        shown.fit(width)
        code = "const l = page._fullLayout; return [l.title.text, l.plot_bgcolor, [...l.yaxis.range]]"
        assert shown.js(code) == ["a title", "rgb(1,2,3)", [-9, 9]]
        assert [note.text for note in shown.all(".annotation-text")].count("a note") == 1
        assert shown.all(".updatemenu-button")


def test_box_plots_become_violins(page):
    result, nodes = everything()
    shown = page(result.plot_global(output_idx=nodes, as_plotly=True))
    assert len(shown.all(".boxlayer .trace.boxes path.box")) == 2 * (3 + 4)
    assert not shown.all(".violinlayer path.violin")
    shown.choose(1, "Violin")
    assert len(shown.all(".violinlayer path.violin")) == 2 * (3 + 4)
    assert not shown.all(".boxlayer .trace.boxes path.box")
    shown.choose(1, "Boxplot")
    assert shown.visible("boxes") == ["boxes"] * 4
    assert not shown.visible("violins")


def test_box_plots_are_drawn_where_their_statistics_are(page):
    result = run_grad(single(3), np.random.default_rng(0).normal(size=(9, 3)), times_input=True)
    p = result.plot_global(as_plotly=True)
    shown = page(p)
    boxes = p.frame.panels[0, 0, 0].boxes
    for n, (_, _, top, bottom) in enumerate(shown.boxes(".boxlayer .trace.boxes path.box")):
        assert top == pytest.approx(shown.at("", n + 1, boxes.high[n])[1], abs=1.5)
        assert bottom == pytest.approx(shown.at("", n + 1, boxes.low[n])[1], abs=1.5)


def test_instances_are_marked(page):
    result, nodes = everything()
    shown = page(result.plot_global(output_idx=nodes, ref_data_idx=3, as_plotly=True))
    assert shown.visible("data point") == ["data point data_4"] * 4
    red = "path.js-line[style*='rgb(255, 0, 0)']"
    legend = ".legend text"
    assert len(shown.all(f".cartesianlayer {red}")) == 2 * (3 + 4)
    assert [text.text for text in shown.all(legend)] == ["data point data_4"]
    shown.choose(2, "data_8")
    assert shown.visible("data point") == ["data point data_8"] * 4
    shown.wait(lambda: [text.text for text in shown.all(legend)] == ["data point data_8"])
    shown.choose(2, "None")
    assert not shown.visible("data point")
    assert not shown.all(red)


def test_slider_leads_through_the_quantiles(page):
    result, nodes = everything()
    shown = page(result.plot_global(output_idx=nodes, as_plotly=True))
    before = shown.js("return page._fullLayout.coloraxis2.cmax")
    (slider,) = shown.all(".innsight-controls input[type=range]")
    slider.send_keys(Keys.END)
    shown.wait(lambda: shown.visible("image") == ["image max"] * 2)
    shown.settle()
    assert shown.all(".innsight-controls output")[0].text == "max"
    assert shown.js("return page._fullLayout.coloraxis2.cmax") > before
    assert any(
        "(max)" in title.text.replace("\n", "")
        for title in shown.all("[class*='coloraxis'] .cbtitle, .cbtitle, [class*='cbcoloraxis']")
    )
    assert len(shown.all(".heatmaplayer image")) == 2
    assert shown.visible("boxes") == ["boxes"] * 4
    assert QUANTILE_LABELS[-1] == "max"


def test_heat_maps_become_contours_and_stay_upright(page):
    image = np.zeros((6, 8))
    image[0, :] = 1.0  # red at the top
    image[5, :] = -1.0  # blue at the bottom
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": image.reshape(1, -1)}]
    converter = Converter({"input_dim": [1, 6, 8], "layers": layers})
    shown = page(run_grad(converter, np.ones((1, 1, 6, 8))).plot(as_plotly=True))
    rows = (0.2, 2.5, 4.8)
    top, middle, bottom = (shown.at("", 3, row) for row in rows)
    assert top[1] < middle[1] < bottom[1]

    def colours():
        return [list(np.round(shown.colour(*place), 1)) for place in (top, middle, bottom)]

    assert colours() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    shown.choose(1, "Contour")
    assert shown.all(".contourlayer .contour")
    assert not shown.all(".heatmaplayer image")
    assert [place == shown.at("", 3, row) for place, row in zip((top, middle, bottom), rows, strict=True)] == [True] * 3
    red, white, blue = colours()
    assert red[0] >= 0.9 > 0.5 > red[2]
    assert white == [1, 1, 1]
    assert blue[2] >= 0.9 > 0.5 > blue[0]
    shown.choose(1, "Heatmap")
    assert colours() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    assert shown.all(".heatmaplayer image")


def test_scales_of_colours(page):
    result, nodes = everything()
    shown = page(result.plot(output_idx=nodes, as_plotly=True))
    fills = "return [...document.querySelectorAll('.barlayer .point path')].map(e => e.style.fill)"
    before = shown.driver.execute_script(fills)
    assert "rgb(0, 0, 255)" in before
    shown.choose(0, "Viridis")
    after = shown.driver.execute_script(fills)
    assert len(after) == len(before) == 2 * (3 + 4)
    assert "rgb(68, 1, 84)" in after
    assert "rgb(0, 0, 255)" not in after
    shown.choose(0, "Viridis (rev.)")
    assert "rgb(253, 231, 37)" in shown.driver.execute_script(fills)
    shown.choose(0, "Default")
    assert shown.driver.execute_script(fills) == before


def test_hover_texts_of_bars(page):
    names = ["age", "a < b", "%{y} & c"]
    result = run_grad(single(3, input_names=names, output_names=["<one>", "%{x}", "c"]),
                      np.random.default_rng(0).normal(size=(2, 3)), times_input=True, output_idx=[1])  # fmt: skip
    p = result.plot(1, as_plotly=True)
    shown = page(p)
    values = result.get_result()[1, :, 0]
    for n, value in enumerate(values):
        text, beside = shown.hover(*shown.at("", n + 1, value / 2))
        assert text == [f"Relevance: {value:.4g}", "Input: Input_1", f"Feature: {names[n]}"]
        assert beside == ["data_2", "Output_1", "%{x}"]


def test_hover_texts_of_images(page):
    converter = single(1, 2, 3, input_names=[["c"], ["top", "bottom"], ["left", "left", "right"]])
    result = run_grad(converter, np.random.default_rng(0).normal(size=(3, 1, 2, 3)))
    shown = page(result.plot(2, as_plotly=True))
    values = np.float32(result.get_result()[2, 0, ..., 0])
    text, beside = shown.hover(*shown.at("", 2, 1))
    assert text == [f"Gradient: {values[1, 2]:.4g}", "Input: Input_1", "Height: bottom", "Width: right"]
    assert beside == ["data_3", "Output_1", "Y1"]
    text, _ = shown.hover(*shown.at("", 1, 0))
    assert text[3].strip("\u200b") == "Width: left"


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("view", ["Boxplot", "Violin"])
def test_hover_texts_of_boxes(page, view, constant):
    result = run_grad(single(3), np.random.default_rng(0).normal(size=(9, 3)), times_input=not constant)
    p = result.plot_global(as_plotly=True)
    shown = page(p)
    if view == "Violin":
        shown.choose(0, view)
    boxes = p.frame.panels[0, 0, 0].boxes
    text, beside = shown.hover(*shown.at("", 2, (boxes.low[1] + boxes.high[1]) / 2))
    low, q1, median, q3, high = (f"{getattr(boxes, name)[1]:.4g}" for name in ("low", "q1", "median", "q3", "high"))
    assert text == [
        f"|{result.value_name}|: {median} (median)", f"Quartiles: {q1}, {q3}",
        f"Whiskers: {low}, {high}", "Input: Input_1",
        "Feature: X2",
    ]  # fmt: skip
    assert beside == ["Output_1", "Y1"]


def test_info_covers_no_bar_and_no_image(page):
    result, nodes = everything()
    shown = page(result.plot([0, 1, 2], output_idx=nodes, as_plotly=True))
    words = [found for found in shown.all(".annotation") if re.match(r"Pred\.", found.text)]
    assert len(words) == 6
    infos = np.array(
        [[r["x"], r["x"] + r["width"], r["y"], r["y"] + r["height"]] for r in (word.rect for word in words)]
    )
    bars = shown.boxes(".barlayer .point path")
    assert len(bars) == 6 * (3 + 4)
    drawn = np.concatenate([bars, shown.boxes(".heatmaplayer image"), shown.boxes(".draglayer .nsewdrag")])
    assert not any(crosses(info, box) for info in infos for box in drawn)


@pytest.mark.parametrize("kind", ["names", "signal", "image", "mixed"])
def test_words_do_not_overlap(page, kind):
    rng = np.random.default_rng(0)
    if kind == "mixed":
        result, nodes = everything()
        shown = page(result.plot([0, 1], output_idx=nodes, as_plotly=True))
    else:
        dim, keys = {
            "names": ((100,), {"input_names": [f"a rather long name of feature {i}" for i in range(100)]}),
            "signal": ((1, 1000), {}),
            "image": ((1, 224, 224), {}),
        }[kind]
        result = run_grad(single(*dim, **keys), rng.normal(size=(2, *dim)), output_idx=[0, 1])
        shown = page(result.plot([0, 1], output_idx=[0, 1], as_plotly=True))
    words = shown.boxes(".xtick text, .ytick text, .xtitle, .ytitle, .annotation-text, .g-xtitle text, .g-ytitle text")
    words = np.unique(words[(words[:, 1] - words[:, 0]) > 0], axis=0)
    assert len(words) > 8
    for n, one in enumerate(words):
        assert one[0] >= 0
        for other in words[n + 1 :]:
            assert not (min(one[1], other[1]) - max(one[0], other[0]) > 1.5
                        and min(one[3], other[3]) - max(one[2], other[2]) > 1.5), (one, other)  # fmt: skip


def test_parts(page):
    result, nodes = everything()
    whole = result.plot_global(output_idx=nodes, ref_data_idx=2, as_plotly=True)
    shown = page(whole[0, 1])
    assert shown.menus() == ["Default", "Boxplot", "data_3", "Heatmap"]
    shown.choose(1, "Violin")
    assert len(shown.all(".violinlayer path.violin")) == 3 + 4
    strips = [found.text for found in shown.all(".annotation-text")]
    assert "Output_1: Y3" in strips
    assert "Output_1: Y1" not in strips
