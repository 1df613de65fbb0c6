"""docs/extending.md taken apart: what a section adds to which file, its configs, its commands."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/extending.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """additions: code for the end of a file, by its path. configs: text by name. commands: lines."""

    additions: dict[str, str]
    configs: dict[str, str]
    commands: list[str]

    def add_to(self, folder: Path):
        """Writes all that the section says into a copy of the repository."""
        for path, code in self.additions.items():
            file = folder / path
            file.write_text(f"{file.read_text()}\n\n{code}")
        for name, text in self.configs.items():
            (folder / name).write_text(text)


def titles() -> list[str]:
    """Of the sections that add something."""
    found = re.findall(r"^## (.*)\n", PAGE.read_text(), re.MULTILINE)
    return [title for title in found if section(title).additions]


def section(title: str) -> Section:
    """A block belongs to the file that the text before it, back to the last block, names last."""
    (text,) = re.findall(
        rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    additions, configs, commands, end = {}, {}, [], 0
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        before, end = text[end : block.start()], block.end()
        if language == "python":
            additions[re.findall(r"[Tt]o `(src/[\w/]+\.py)`", " ".join(before.split()))[-1]] = (
                content
            )
        elif language == "yaml":
            configs[re.findall(r"`(\w+\.yaml)`:\s*$", before)[-1]] = content
        else:
            commands += content.splitlines()
    return Section(additions, configs, commands)
