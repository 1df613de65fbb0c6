"""README and docs/ as a site: built strictly, and every link of what was built followed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[1]
WANTED = ("mkdocs", "material", "mkdocstrings")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, WANTED)),
    reason="packages missing: pip install -c constraints.txt -e '.[docs]'",
)


class Page(HTMLParser):
    """Where a page leads to, what it loads, what one can point at in it, and its paragraphs."""

    def __init__(self, file: Path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.paragraphs = [], [], set(), []
        self.inside = False
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("link", "script", "img", "iframe"):
            self.loaded += filter(None, [found.get("href"), found.get("src")])
        if tag == "p":
            self.inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "p"

    def handle_data(self, data):
        if self.inside:
            self.paragraphs[-1] += data


def build(source: Path, folder: Path) -> subprocess.CompletedProcess:
    """As `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    # The page of an address that is not there has the server's root in its links.
    return {file: Page(file) for file in folder.rglob("*.html") if file.name != "404.html"}


def is_elsewhere(link: str) -> bool:
    return re.match(r"[a-z]+:|//", link) is not None


def test_every_page_of_the_repository_is_shown(site):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = [page.relative_to(ROOT).with_suffix(".html").as_posix() for page in pages]
    built = {file.as_posix() for file in site}
    assert len(names) > 40
    for name in names:
        assert any(file.endswith("/" + name.replace("README", "index")) for file in built), name


def test_every_link_leads_somewhere(site):
    followed, broken = 0, []
    for file, page in site.items():
        for link in page.links + page.loaded:
            if is_elsewhere(link):
                continue
            path, anchor = urldefrag(link)
            target = (file.parent / unquote(path)).resolve() if path else file
            followed += 1
            if not target.is_file() or (anchor and unquote(anchor) not in site[target].anchors):
                broken.append((file.name, link))
    assert broken == [] and followed > 1000


def test_nothing_is_fetched_from_elsewhere(site):
    assert {link for page in site.values() for link in page.loaded if is_elsewhere(link)} == set()


def test_lists_and_tables_are_what_they_are_on_github(site):
    """Its Markdown lets them follow a paragraph without an empty line; the site's does not."""
    lines = [
        line for page in site.values() for text in page.paragraphs for line in text.split("\n")
    ]
    assert [line for line in lines if re.match(r"\s*([-*] |\d+\. |\||```)", line)] == []


def test_the_reference_has_every_public_module(site):
    named = {anchor for page in site.values() for anchor in page.anchors if anchor}
    files = [f for f in (ROOT / "src/muxplm").rglob("*.py") if f.stem[0] != "_"]
    modules = {".".join(f.relative_to(ROOT / "src").with_suffix("").parts) for f in files}
    assert modules - named == {"muxplm.cli"}
    assert {"muxplm-prime", "muxplm.models.multiplexers.HadamardMultiplexer"} <= named


def test_a_broken_link_fails(tmp_path):
    for name in ("mkdocs.yml", "docs/hooks.py", "docs/log.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src/muxplm").mkdir(parents=True)
    (tmp_path / "README.md").write_text("[The log](docs/log.md), [gone](docs/gone.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert re.findall(r"WARNING .*README.md' contains a link '(.*?)'", done.stderr) == [
        "docs/gone.md"
    ]
