"""The site has the repository's own files at their own places, so that every relative link holds."""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.structure.files import File, Files

from muxplm import experiments
from muxplm.reporting.captions import label

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/muxplm"
# Pages, and what they link to: pictures are shown, anything else is copied as it is.
SHOWN = [
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "config/README.md",
    "docs/**/*.md",
    "docs/**/*.png",
    "docs/**/*.svg",
    "docs/site.css",
    "examples/*.py",
    "examples/*.sbatch",
    "notebooks/*.ipynb",
    "src/muxplm/**/README.md",
    "workflow/profiles/README.md",
]


def on_files(files: Files, config) -> Files:
    """In the place of the files of docs/: those named above, and the pages of the reference."""
    # What the theme brings (scripts, styles) has another source.
    kept = [file for file in files if file.src_dir != config.docs_dir]
    target = (config.site_dir, config.use_directory_urls)
    for path in sorted({path for pattern in SHOWN for path in ROOT.glob(pattern)}):
        kept.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), *target))
    packages = [PACKAGE, *(init.parent for init in sorted(PACKAGE.glob("*/__init__.py")))]
    pages = {"commands": commands()} | {package.name: reference(package) for package in packages}
    for name, text in pages.items():
        kept.append(File.generated(config, f"docs/reference/{name}.md", content=text))
    return Files(kept)


def on_page_markdown(markdown: str, page, **_) -> str:
    """The workflow's tables have captions, and no headings."""
    name = Path(page.file.src_uri).stem
    return f"# {label(name)}\n\n{markdown}" if name in experiments.TABLES else markdown


def reference(folder: Path) -> str:
    """A page of mkdocstrings': the modules of a package; of muxplm itself those in no other."""
    files = sorted(folder.glob("*.py") if folder == PACKAGE else folder.rglob("*.py"))
    files = [file for file in files if file.stem[0] != "_" and file.stem != "cli"]
    modules = [".".join(f.relative_to(ROOT / "src").with_suffix("").parts) for f in files]
    title = ".".join(folder.relative_to(ROOT / "src").parts)
    return "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)])


def commands() -> str:
    """What `muxplm --help` says, of each command; without its lists of them, which cut their lines."""
    typer = [sys.executable, "-m", "typer", "muxplm.cli", "utils", "docs", "--name", "muxplm"]
    said = subprocess.run(typer, capture_output=True, text=True, check=True).stdout
    said = said.replace("# `muxplm`", "# Commands", 1)
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", said)
