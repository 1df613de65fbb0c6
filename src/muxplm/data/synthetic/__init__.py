"""The embedded synthetic language: a corpus and eleven tasks, generated from a small grammar.

See docs/synthetic-language.md.
"""

from .corpus import corpus
from .tasks import TASKS, task

__all__ = ["TASKS", "corpus", "task"]
