"""The report: what it says against counting, that hostile names stay text, and how it behaves in a real browser."""

import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from made_up import make_up_results, write_record
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.paths import CAPTION_FILE, FIGURE_FILE
from robustprune.core.record import read_record
from robustprune.core.registry import stage_classes
from robustprune.core.rows import Columns
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.images.pool import open_pool
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.pruning.prune import ManifestStage
from robustprune.report.explorer import _sentence, is_margin
from robustprune.report.gallery_content import DROPPED, HELD_OUT, KEPT, Gallery, read_gallery
from robustprune.report.gallery_cuts import Cut
from robustprune.report.gallery_stage import GalleryStage
from robustprune.report.page import ReportStage, in_words
from robustprune.scores.score import Meaning, ScoreStage
from robustprune.scores.score_files import publish_score
from robustprune.scores.store.reader import open_store
from tiny import SCORED, TINY, spec_of, specs_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(2)>"
REPORT, FIGURE = "results/report.html", "puma/figure1.svg"
CLASSES = [f"class {number}" for number in range(8)] + ["</script><b>", QUOTES]
MARGIN = Meaning("margin", "Linf distance, pixel range [0, 1]", "high", "a large margin is an easy image")
LOSS = Meaning("loss", "cross-entropy", "low", "a small loss is an easy image")


class Made(NamedTuple):
    """A plan with the report and all that it reads, its results made up but for manifests, tables and galleries."""

    plan: Plan
    results: Path

    @property
    def page(self) -> Path:
        return self.plan.directory(self.plan.targets[str(self.results / "report.html")]) / "report.html"

    def gallery(self, word: str) -> tuple[GalleryStage, Gallery]:
        stage = next(one for one in self.plan.stages if one.startswith(f"gallery-{word}"))
        return spec_of(self.plan, stage, GalleryStage), read_gallery(self.plan.directory(stage))


def tables() -> dict[str, Table]:
    """Rows that drop by margin in several ways, at random, and by loss, with hostile names among them."""
    given: list[dict[str, Any]] = [
        {"method": "everything"},
        {"method": "PUMA", "strategy": "puma", "radius": "margin"},
        {"method": SCRIPT, "strategy": "prune_easy_and_difficult"},
        {"method": "by class", "strategy": "prune_easy", "per": "class"},
        {"method": "chance", "strategy": "random", "radius": "margin"},
        {"method": QUOTES, "strategy": "low_loss", "score": "loss"},
    ]
    rows = tuple(Row.model_validate(row) for row in given)
    claim = {"claim": f"Pruning helps {SCRIPT}", "checks": [{"quantity": "accuracy", "row": "PUMA", "above": 1.0}]}
    keys = {"title": f"A table {QUOTES}", "target": "mine/table.csv", "rows": rows, "claims": [claim]}
    return {"mine.table": Table.model_validate(keys)}


def write_images(path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 10
    images = np.clip(rng.normal(90, 60, (600, 8, 8)) + 8 * labels[:, None, None], 0, 255).astype(np.uint8)
    np.savez(path, image=images, label=labels)


def made_in(folder: Path) -> Made:
    write_images(folder / "drawn.npz")
    shows = {"report": {"shows": ["mine/*", FIGURE]}, "synthetic": {"source": f"npz:{folder}/drawn.npz"}}
    config, results = load_config(merge(TINY, shows)), folder / "results"
    figures = {name: figure for name, figure in load_figures().items() if figure.target == FIGURE}
    make_up_results(make_plan(config, tables(), results=results))
    plan = make_plan(config, tables(), figures, results=results, page=True)
    plan.write_specs()
    for stage in plan.needed_for([plan.targets[str(results / "report.html")]]):
        kind = plan.stages[stage].kind
        if kind == "scores":
            make_up_score(plan, stage)
        elif kind == "figures":
            make_up_figure(plan, stage)
        elif kind not in ("generators", "models", "evaluations", "studies"):
            run_stage(plan.directory(stage), Execution(device="cpu"))
            if kind == "pools":
                name_classes(plan.directory(stage))
    return Made(plan, results)


def make_up_score(plan: Plan, stage: str) -> None:
    spec = plan.stages[stage]
    assert isinstance(spec, ScoreStage)
    job = Job(plan.directory(stage), Execution(device="cpu"), threads=1, live=False)
    job.partial.mkdir()
    pool, rng = open_pool(job.upstream("pools", spec.pool)), np.random.default_rng(len(stage))
    if "loss" in stage:
        losses: Columns = {"loss": rng.exponential(size=len(pool)).astype(np.float32)}
        return write_record(job.directory, publish_score(job, spec, [losses], LOSS, pool, {}))
    margins = rng.normal(0.15, 0.1, len(pool)).astype(np.float32)
    margins[::40] = np.inf
    predictions = np.where(margins < 0, (pool.labels + 1) % 10, pool.labels).astype(np.int16)
    columns: Columns = {"margin": margins, "prediction": predictions}
    return write_record(job.directory, publish_score(job, spec, [columns], MARGIN, pool, {}))


def make_up_figure(plan: Plan, stage: str) -> None:
    directory = plan.directory(stage)
    (directory / FIGURE_FILE).write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>')
    (directory / CAPTION_FILE).write_text(f"A figure {SCRIPT}.\n\nClaimed: {QUOTES}.\n")
    write_record(directory, {}, seconds=61.5)


def name_classes(pool: Path) -> None:
    found = read_record(pool)
    found.model_copy(update={"facts": {**found.facts, "class_names": CLASSES}}).write(pool)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_in(tmp_path_factory.mktemp("report"))


def plan_of(overrides: dict[str, Any]) -> Plan:
    return make_plan(load_config(overrides), load_experiments(), load_figures(), quality=True, page=True)


def test_the_report_of_the_default_needs_table_1_and_what_it_prunes_by() -> None:
    plan = plan_of({})
    report = plan.targets[REPORT]
    kinds = Counter(plan.stages[stage].kind for stage in plan.needed_for([report]))
    of_table = Counter(plan.stages[stage].kind for stage in plan.needed_for([plan.targets["results/table1.csv"]]))
    assert kinds - of_table == {"galleries": 1, "reports": 1}


def test_a_pattern_shows_all_of_a_paper_and_a_score_has_one_gallery() -> None:
    plan = plan_of({"report": {"shows": ["puma/*", "table1.csv"]}})
    report = spec_of(plan, plan.targets[REPORT], ReportStage)
    expected = {one.removeprefix("results/") for one in plan.targets if one.startswith("results/puma/")}
    assert {one.target for one in report.shown} == expected | {"table1.csv"}
    scores = [spec_of(plan, stage, GalleryStage).scores for stage in report.galleries]
    assert len(scores) == len(set(scores)) > 1


def test_what_cannot_be_shown_is_named_and_stops_no_table() -> None:
    nothing = plan_of({"report": {"shows": ["table99.csv"]}})
    assert "report.shows = 'table99.csv'" in nothing.problems[REPORT]
    assert "results/table1.csv" in nothing.targets
    assert not any(spec.kind in ("galleries", "reports") for spec in nothing.stages.values())
    off = {"training": {"trades": {"epochs": 5}}}  # where uncertainty needs more epochs than there are
    impossible = plan_of({**off, "report": {"shows": ["scores.csv"]}})
    assert "report.shows = 'scores.csv' cannot be made" in impossible.problems[REPORT]
    every = plan_of({**off, "report": {"shows": ["*"]}})
    assert "scores.csv" in spec_of(every, every.targets[REPORT], ReportStage).impossible


@pytest.mark.parametrize(("radius", "margin"), [("constant", False), ("margin", True)])
def test_imported_distances_are_margins_only_where_they_are_used_as_radii(
    radius: str, margin: bool, tmp_path: Path
) -> None:
    np.save(tmp_path / "theirs.npy", np.zeros(1297, np.float32))
    theirs = {"train": f"{tmp_path}/theirs.npy", "unit": "distance", "easy": "high", "margins": margin}
    row = Row.model_validate({"method": "m", "strategy": "puma", "imported": "theirs", "radius": radius})
    table = Table(title="t", target="mine/t.csv", rows=(row,))
    settings = {"imported": {"theirs": {**theirs, "column": "margin"}}, "report": {"shows": ["mine/*"]}}
    plan = make_plan(load_config(merge(SCORED, settings)), {"mine.t": table}, page=True)
    (gallery,) = specs_of(plan, GalleryStage)
    assert is_margin(MARGIN, gallery, plan.stages) == margin


def test_a_cut_within_images_of_one_score_is_described_as_such() -> None:
    cut = Cut(group="all", side="above", at=2.0)
    assert _sentence(cut, MARGIN) == "It cuts at a margin of 2: from there up all are dropped."
    partly = cut.model_copy(update={"partly": True})
    assert _sentence(partly, MARGIN) == "It cuts at a margin of 2: all above are dropped, and some of those at it."


def test_every_kind_of_stage_is_described_in_a_sentence() -> None:
    assert all(stage.sentence for stage in stage_classes())


def test_times_are_in_their_two_largest_units() -> None:
    expected = {
        0.26: "0.3 s", 59.94: "59.9 s", 59.97: "1 min 0 s", 61.5: "1 min 2 s", 119.7: "2 min 0 s",
        3599.9: "1 h 0 min", 200000: "55 h 33 min",
    }  # fmt: skip
    assert {seconds: in_words(seconds) for seconds in expected} == expected


@pytest.mark.parametrize("word", ["margin", "loss"])
def test_a_gallery_counts_what_the_stores_and_manifests_say(made: Made, word: str) -> None:
    spec, gallery = made.gallery(word)
    column = gallery.score.column
    assert [source.kind for source in gallery.sources] == ["real", "generated"]
    for number, (pool_id, score) in enumerate(zip(spec.pools, spec.scores, strict=True)):
        pool, source = open_pool(made.plan.directory(pool_id)), gallery.sources[number]
        values = open_scores(made.plan.directory(score), column)
        assert np.sum(source.counts) == len(pool) == source.images
        assert np.sum(source.counts, axis=1).tolist() == np.bincount(pool.labels, minlength=10).tolist()
        edges = np.array(gallery.edges)
        inside = [np.sum((values >= low) & (values < high)) for low, high in pairwise(edges[1:-1])]
        assert np.sum(source.counts, axis=0)[2:-2].tolist() == inside
        assert np.sum(source.counts, axis=0)[-1] == np.sum(np.isinf(values))
        for choice in gallery.choices:
            fates = fates_of(made, choice.manifest, pool_id, len(pool), real=number == 0)
            assert np.sum(choice.dropped[number]) == np.sum(fates == DROPPED)
            assert np.sum(choice.held_out[number]) == np.sum(fates == HELD_OUT)
            assert choice.shown[number] == fates[[shown.row for shown in source.shown]].tolist()
            by_class = np.bincount(pool.labels[fates == DROPPED], minlength=10)
            assert np.sum(choice.dropped[number], axis=1).tolist() == by_class.tolist()


def open_scores(directory: Path, column: str) -> Any:
    return open_store(directory / "scores.zarr").read(column)


def fates_of(made: Made, stage: str, pool_id: str, count: int, *, real: bool) -> Any:
    rows = pd.read_parquet(made.plan.directory(stage) / "manifest.parquet")
    fates = np.full(count, DROPPED)
    fates[: spec_of(made.plan, stage, ManifestStage).validation_images if real else 0] = HELD_OUT
    fates[rows.loc[rows["pool"] == pool_id, "index"].to_numpy()] = KEPT
    return fates


def test_pumas_cut_is_the_lowest_margin_that_it_drops(made: Made) -> None:
    spec, gallery = made.gallery("margin")
    puma = next(choice for choice in gallery.choices if choice.manifest.startswith("puma-"))
    dropped = []
    for number, (pool_id, score) in enumerate(zip(spec.pools, spec.scores, strict=True)):
        values = open_scores(made.plan.directory(score), "margin")
        fates = fates_of(made, puma.manifest, pool_id, len(values), real=number == 0)
        dropped += values[fates == DROPPED].tolist()
    assert [(cut.group, cut.side, cut.at) for cut in puma.cuts] == [("all", "above", min(dropped))]
    sides = {choice.manifest.split("-")[1]: [cut.side for cut in choice.cuts] for choice in gallery.choices}
    assert sides["easy"] in (["above", "below"], ["above"] * 10)
    by_class = next(choice for choice in gallery.choices if len(choice.cuts) == 10)
    assert [cut.group for cut in by_class.cuts] == [str(number) for number in range(10)]


class Elements(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_is_well_formed_and_complete_in_itself(made: Made) -> None:
    text = made.page.read_text()
    page = Elements(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("alt") for attributes in page.named("img"))
    references = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    references += [str(link["href"])[1:] for link in page.named("a")]
    assert set(references) <= set(ids)
    sources = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(source and source.startswith(("data:", "#")) for source in sources)
    assert set(re.findall(r"url\(\W?(\w+)", text)) == {"data", "hatch", "dots"}
    assert set(re.findall(r"\w+://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert [attributes.get("lang") for attributes in page.named("html")] == ["en"]


def test_hostile_names_are_text(made: Made) -> None:
    text = made.page.read_text()
    for hostile in (SCRIPT, QUOTES, "</script><b>"):
        assert hostile not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert len(Elements(text).named("script")) == 3  # two galleries' data, and the page's own
    data = re.findall(r'<script type="application/json" data-role="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data[0])["classes"] == CLASSES


def test_the_page_has_tables_claims_figures_stages_and_versions(made: Made) -> None:
    text = made.page.read_text()
    assert re.search(r'class="verdict cannot-tell">cannot tell</span>\s*<p>Pruning helps', text)
    assert "accuracy" in text.lower()
    assert re.search(r"<strong>PUMA</strong> drops <strong>\d+ of [\d,]+ \(20\.0 %\)</strong>: .* highest margin", text)
    assert 'alt="A figure &lt;script' in text
    for stage in made.plan.needed_for([made.page.parent.name])[:-1]:
        assert stage in text
    assert "1 min 2 s on cpu" in text
    assert re.search(r'<th scope="row">torch</th><td>\d', text)


def test_deleted_stages_are_named_and_damaged_ones_refused(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.results, tmp_path / "results")
    copy = tmp_path / made.page.relative_to(made.results.parent)
    job = Job(copy.parent, Execution(device="cpu"), threads=1, live=False)
    evaluation = next(stage for stage in made.plan.stages if stage.startswith("cw-puma-trades"))
    forget(job.upstream("evaluations", evaluation))
    forget(copy.parent)
    run_stage(copy.parent, Execution(device="cpu"))
    assert f"<code>{evaluation}</code>: deleted since" in copy.read_text()
    table = next(stage for stage in made.plan.stages if stage.startswith("mine-table"))
    job.upstream("tables", table).joinpath("table.json").write_text("{}")
    forget(copy.parent)
    with pytest.raises(UserError, match=r"table\.json is not a readable table"):
        run_stage(copy.parent, Execution(device="cpu"))


def forget(stage: Path) -> None:
    for name in ("record.json", ".record.json"):
        (stage / name).unlink()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser_page(made: Made) -> Iterator["Page"]:
    """The report in a real browser, which must not say anything on its console."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; on Debian, 'apt-get install chromium' brings one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(made.page.as_uri())
        yield page
        assert said == []
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        browser.close()


def choose(page: "Page", **values: str) -> None:
    for role, value in values.items():
        page.locator("#explorer-0").locator(f'[data-role="{role}"]').select_option(value)


def test_a_click_on_a_bin_shows_its_images(made: Made, browser_page: "Page") -> None:
    _, gallery = made.gallery("margin")
    chart = browser_page.locator("#explorer-0 .chart")
    title = browser_page.locator('#explorer-0 [data-role="bin-title"]')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    before = title.inner_text()
    browser_page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + 100)
    assert title.inner_text() != before
    shown = browser_page.locator('#explorer-0 [data-role="bin"] .image')
    number = int(chart.get_attribute("aria-valuenow") or "")  # no image has minus infinity, so this counts from bin 1
    of_sources = [sum(one.bin == number + 1 for one in source.shown) for source in gallery.sources]
    assert shown.count() == sum(min(there, 24) for there in of_sources) > 0
    more = browser_page.locator('#explorer-0 [data-role="bin"] .more')
    assert more.count() == sum(there > 24 for there in of_sources)
    for _ in range(more.count()):
        more.first.click()
    assert shown.count() == sum(of_sources)
    images = np.sum([np.sum(source.counts, axis=0)[number + 1] for source in gallery.sources])
    counts = re.findall(r"(?:real|generated) ([\d,]+), ", chart.get_attribute("aria-valuetext") or "")
    assert sum(int(one.replace(",", "")) for one in counts) == images


def test_keys_move_from_bin_to_bin(browser_page: "Page") -> None:
    chart = browser_page.locator("#explorer-0 .chart")
    last = int(chart.get_attribute("aria-valuemax") or "")
    chart.focus()

    moves = ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "PageUp", "End", "ArrowRight"]
    for key, place in zip(moves, (0, 1, 2, 1, 11, last, last), strict=True):
        browser_page.keyboard.press(key)
        assert chart.get_attribute("aria-valuenow") == str(place)
    assert "margin ∞" in browser_page.locator('#explorer-0 [data-role="bin-title"]').inner_text()
    labels = browser_page.locator('#explorer-0 [data-role="bin"] .image').first.get_attribute("aria-label") or ""
    assert re.fullmatch(r"real image \d+, class .*, margin ∞, (kept|dropped|held out for validation)", labels)


def test_another_choice_and_class_change_counts_marks_and_images(browser_page: "Page") -> None:
    explorer = browser_page.locator("#explorer-0")
    names = explorer.locator('[data-role="choice"] option').all_inner_texts()
    assert {SCRIPT, "PUMA", "by class", "chance"} == set(names)
    choose(browser_page, choice=str(names.index("PUMA")))
    assert explorer.locator("line.cut").count() == 1
    assert explorer.locator("line.epsilon").count() == 1
    assert explorer.locator(".lead:visible").inner_text().startswith("PUMA drops")
    choose(browser_page, choice=str(names.index("by class")))
    assert explorer.locator("line.cut").count() == 0
    choose(browser_page, **{"class": "3"})
    assert explorer.locator("line.cut").count() == 1
    labels = [one.get_attribute("aria-label") or "" for one in explorer.locator(".image").all()]
    assert labels
    assert all(", class class 3, " in label for label in labels)
    choose(browser_page, choice=str(names.index("chance")), **{"class": ""})
    assert explorer.locator("line.cut").count() == 0


def test_an_end_without_images_is_left_out_and_so_is_an_epsilon_that_means_nothing(browser_page: "Page") -> None:
    of_margin, of_loss = (browser_page.locator(f"#explorer-{number}") for number in (0, 1))
    ends = [one.locator('[data-role="ends"] h4').all_inner_texts() for one in (of_margin, of_loss)]
    assert ends[0] == ["Highest margins", "Lowest positive margins", "Negative margins", "Infinite margins"]
    assert ends[1] == ["Highest loss", "Lowest loss"]
    assert of_margin.locator('[data-role="epsilon"]').is_visible()
    assert not of_loss.locator('[data-role="epsilon"]').is_visible()
    assert of_loss.locator("line.cut").count() == 1


def test_who_asks_for_all_images_of_an_end_goes_on_at_the_first_new_one(browser_page: "Page") -> None:
    choose(browser_page, **{"class": ""})
    ends = browser_page.locator('#explorer-0 [data-role="ends"]')
    assert ends.locator("section").first.get_attribute("aria-label") == "Highest margins"
    strip = ends.locator(".strip").first
    before, more = strip.locator("li").count(), strip.locator("button.more")
    assert re.fullmatch(r"Show all \d+ real images", more.inner_text())
    more.click()
    assert more.count() == 0
    assert strip.locator("li").count() > before
    assert strip.locator("li").nth(before).evaluate("element => element === document.activeElement")


def test_what_is_held_out_is_dotted_and_what_is_dropped_striped(browser_page: "Page") -> None:
    bars = browser_page.locator("#explorer-0 .chart svg > rect").evaluate_all(
        "all => all.map(one => one.getAttribute('fill'))"
    )
    assert {"url(#hatch-0)", "url(#dots-0)"} <= set(bars)
    assert browser_page.locator("#explorer-0 #dots-0 circle.held-out").count() == 1


def test_an_image_on_the_page_is_the_one_in_the_pool(made: Made, browser_page: "Page") -> None:
    """Drawn eight times as large without smoothing, every 8 x 8 square of a tile has one colour: the pool's pixel."""
    spec, _ = made.gallery("margin")
    choose(browser_page, **{"class": ""})
    image = browser_page.locator('#explorer-0 [data-role="ends"] .image').first
    row = int(re.findall(r"real image (\d+),", image.get_attribute("aria-label") or "")[0])
    picture = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("L"))[3:, 3:]  # within its frame
    expected = open_pool(made.plan.directory(spec.pools[0])).images[row][0]
    np.testing.assert_allclose(picture[4:64:8, 4:64:8].astype(int), expected.astype(int), atol=1)


def test_nothing_is_wider_than_a_small_screen(browser_page: "Page") -> None:
    browser_page.set_viewport_size({"width": 400, "height": 800})
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 400
    chart = browser_page.locator("#explorer-0 .chart svg")
    assert chart.evaluate("element => element.getBBox().width") <= 400
    browser_page.set_viewport_size({"width": 1000, "height": 900})


def test_text_stands_out_from_what_is_behind_it_in_both_schemes(browser_page: "Page") -> None:
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for what is drawn."""
    read = """names => names.map(name => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(--${name})`;
      const found = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).map(Number);
      probe.remove();
      return found;
    })"""
    for scheme in ("light", "dark"):
        browser_page.emulate_media(color_scheme=scheme)
        names = ["ink", "quiet", "link", "agrees", "disagrees", "cannot-tell"]
        text = browser_page.evaluate(read, names)
        drawn = browser_page.evaluate(read, ["kept", "dropped", "held-out"])
        for ground in browser_page.evaluate(read, ["paper", "panel"]):
            assert min(contrast(one, ground) for one in text) >= 4.5, scheme
            assert min(contrast(one, ground) for one in drawn) >= 3, scheme
        (chosen,) = browser_page.evaluate(read, ["chosen"])
        assert min(contrast(one, chosen) for one in drawn) >= 3, scheme
    browser_page.emulate_media(color_scheme="light")


def contrast(first: list[int], second: list[int]) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: list[int]) -> float:
    """Relative luminance of sRGB, as WCAG 2.1 has it."""
    linear = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
