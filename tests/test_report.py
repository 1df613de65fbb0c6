"""The HTML report of made-up results: made by make, looked at in a browser where there is one."""

import base64
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from fabricated import ROOT, fabricate, settings_for
from matplotlib.image import imread
from test_workflow import Copy

from muxplm import experiments
from muxplm.reporting import captions, figures, tables
from muxplm.reporting.claims import write_claims

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
WITHOUT_PROFILE = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BUILT = ["table1", "table2", "table5", "table10", "composition", "tokens", "pareto_glue"]


def make_report(copy: Copy) -> subprocess.CompletedProcess:
    """`make report`, in the environment that runs the tests."""
    shutil.copy(ROOT / "Makefile", copy.folder)
    snakemake = f"SNAKEMAKE={sys.executable} -m snakemake --cores 1"
    return copy.run("make", "report", "ENV=", snakemake)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of the default config: some tables, one figure, the claims. And the report of them."""
    copy = Copy(tmp_path_factory.mktemp("report"))
    settings = settings_for(copy.folder / "results")
    fabricate(settings, *BUILT)
    for name in BUILT:
        (tables.build if name in experiments.TABLES else figures.draw)(name, settings)
    write_claims(settings)
    made_by_the_workflow = Path(settings.paths.benchmark("claims"))
    made_by_the_workflow.parent.mkdir(parents=True, exist_ok=True)
    made_by_the_workflow.touch()
    done = make_report(copy)
    assert done.returncode == 0, done.stdout[-2000:]
    return copy.folder


# --- The pages of the tables -----------------------------------------------------------------------


def rows_of(page: str) -> list[list[str]]:
    """Bold marked as in Markdown."""
    body = page.split("</thead>")[1].split("</table>")[0]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in body.split("<tr>")[1:]]
    return [[re.sub("</?b>", "**", unescape(cell)) for cell in row] for row in rows]


@pytest.mark.parametrize("name", ["table1", "table2", "table10", "composition"])
def test_a_page_has_the_rows_of_the_markdown(folder, name):
    page = (folder / f"results/tables/{name}.html").read_text()
    text = (folder / f"results/tables/{name}.md").read_text()
    wanted = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|:")
    ]
    head = wanted[0]
    assert [row for row in rows_of(page) if len(row) == len(head)] == [
        row for row in wanted if row != head
    ]
    titles = re.findall("^## (.*)", text, re.MULTILINE)
    assert [cell for row in rows_of(page) if len(row) == 1 for cell in row] == [
        f"<i>{title}</i>" for title in titles
    ]
    assert unescape(page.split("<p>")[1].split("</p>")[0]) == text.split("\n\n")[0]
    width = sum(int(n) for n in re.findall(r'colspan="(\d+)"', page.split("</thead>")[0]))
    assert width in (0, len(head))


def test_the_papers_numbers_are_marked(folder):
    page = (folder / "results/tables/table1.html").read_text()
    marked = re.findall('<td class="paper">(.*?)</td>', page)
    # Five columns; eleven rows below that of the majority class, which the paper has not.
    assert marked[:5] == ["-"] * 5 and "85.4 (0.0)" in marked[5] and len(marked) == 5 * 12


# --- make report -----------------------------------------------------------------------------------


def test_a_report_of_nothing_is_one_sentence(tmp_path):
    done = make_report(Copy(tmp_path))
    assert done.returncode != 0
    assert "nothing to report in results: make table1 or make all first" in done.stdout
    # Started by a make, as `make test` does, make also says which folder it enters.
    said = [line for line in done.stdout.splitlines() if not line.startswith("make[")]
    assert "Traceback" not in done.stdout and len(said) <= 2


def test_a_report_after_table1_alone(tmp_path):
    """And after `muxplm claims` by hand: Snakemake would miss what the other claims rest on."""
    copy = Copy(tmp_path)
    settings = settings_for(tmp_path / "results")
    fabricate(settings)
    tables.build("table1", settings)
    write_claims(settings)
    done = make_report(copy)
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.findall(r"Adding (\w+\.(?:html|csv|png))", done.stdout) == [
        "table1.html",
        "table1.csv",
    ]


# --- In a browser ----------------------------------------------------------------------------------


class View:
    """The report after `script`: its elements as text, and a picture of it."""

    def __init__(self, folder: Path, name: str, script: str):
        page = folder / f"report-{name}.html"
        script = f"<script>setTimeout(() => {{{script}}}, 500)</script>"
        page.write_text((folder / "results/report.html").read_text() + script)
        self.picture = folder / f"{name}.png"
        profile = f"--user-data-dir={folder / 'profile'}"
        command = [BROWSER, *WITHOUT_PROFILE, profile, "--virtual-time-budget=5000"]
        command += ["--window-size=1400,900", "--enable-logging=stderr"]
        for what in ("--dump-dom", f"--screenshot={self.picture}"):
            done = subprocess.run(
                [*command, what, page.as_uri()], capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr
            assert "Uncaught" not in done.stderr, done.stderr
            self.elements = done.stdout or self.elements

    def menu(self) -> list[str]:
        """The first column of the list of results."""
        shown = re.sub(r"<script.*?</script>", "", self.elements, flags=re.DOTALL)
        rows = re.findall(r"<tr>(<td.*?)</tr>", shown, re.DOTALL)
        return [unescape(re.search(r"<td[^>]*>(.*?)</td>", row).group(1)) for row in rows]

    def frame(self) -> str:
        """The page that is shown beside the menu."""
        source = re.search(r'<iframe src="data:text/html;.*?base64,(.*?)"', self.elements).group(1)
        return base64.b64decode(source).decode()

    def ink(self) -> float:
        """The share of pixels right of the menu that are not white."""
        return float((imread(self.picture)[:, 450:, :3].min(axis=2) < 0.9).mean())


def opened(category: str, row: int) -> str:
    """Opens a category, then one of its results."""
    click = f"document.querySelectorAll('tbody tr')[{row}].querySelector('a').click()"
    return f"app.showCategory('{category}'); setTimeout(() => {click}, 500)"


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_the_front_page(folder):
    view = View(folder, "front", "")
    assert "A reproduction of MUX-PLMs" in view.elements
    categories = ("Claims", "Figures", "Tables", "Tables beyond the paper")
    places = [view.elements.find(f"<span>{name}</span>") for name in categories]
    assert places == sorted(places) and min(places) > 0
    assert view.ink() > 0.005


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_the_tables_stand_in_the_papers_order_and_open(folder):
    view = View(folder, "table", opened("Tables", 1))
    assert [name.split(":")[0].split() for name in view.menu()] == [
        ["Table", "1"],
        ["Table", "2"],
        ["Table", "10"],
    ]
    assert "every number (CSV)" in view.elements  # the switch
    assert view.frame() == (folder / "results/tables/table2.html").read_text()
    assert view.ink() > 0.02
    view = View(folder, "beyond", opened("Tables beyond the paper", 0))
    assert view.menu() == ["Composition strategies", "NER and POS"]
    assert view.frame() == (folder / "results/tables/composition.html").read_text()


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_a_figure_is_shown(folder):
    image = """document.querySelector('img[src^="data:image/png"]')"""
    width = f"setTimeout(() => document.title = {image}.naturalWidth, 1500)"
    view = View(folder, "figure", f"{opened('Figures', 0)}; {width}")
    assert view.menu() == [captions.label("pareto_glue")]
    assert "<title>1360</title>" in view.elements
    assert view.ink() > 0.005


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_the_claims_are_shown(folder):
    view = View(folder, "claims", opened("Claims", 0))
    assert view.frame() == (folder / "results/claims.html").read_text()
    assert view.ink() > 0.05
