"""`muxplm pin`: today's commits of what a config reads from the Hub, as a config to lay over it."""

import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from muxplm import experiments, hub
from muxplm.files import DataError
from muxplm.settings import Settings


def pins(settings: Settings) -> str:
    """YAML with data.revisions and released.revisions, complete. Raises DataError without the Hub."""
    found = {}
    if settings.data.source == "hub":
        repos = hub.unpinned(settings.tasks, {}, corpus=not settings.released)
        commits = {repo.name: _commit("dataset_info", repo.name, repo.branch) for repo in repos}
        found["data"] = {"revisions": commits}
    if settings.released and not settings.released.mirror:
        ids = experiments.released_ids(settings.axes)
        commits = {name: _commit("model_info", name) for name in ids}
        found["released"] = {"revisions": commits}
    return yaml.safe_dump(found, sort_keys=False)


def _commit(kind: str, name: str, branch: str = "main") -> str:
    try:
        return getattr(HfApi(), kind)(name, revision=branch).sha
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name}: the Hub gives no commit of {branch} ({reason})") from None
