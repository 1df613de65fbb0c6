"""The default config with changes laid over it, as Snakemake merges them."""

from pathlib import Path

import yaml

from muxplm import config as configuration
from muxplm.settings import merge

ROOT = Path(__file__).parent.parent


def merged(*changes: dict) -> dict:
    raw = yaml.safe_load((ROOT / configuration.DEFAULT).read_text())
    for change in changes:
        raw = merge(raw, change)
    return raw
