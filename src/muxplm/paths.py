"""Where every result lies. Nothing else spells a path."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paths:
    """Where everything lies. A wildcard such as "{model}" may stand for any name.

    A trained model is a folder: weights, config and run.json, which says how they came about. The path
    that stands for it is that of done.json beside them: small, and written when the rest is whole.
    Snakemake deletes it to repeat a job, and never the weights, which the job may still find current.
    """

    results: str = "results"
    scratch: str = "scratch"

    def config(self, digest):
        """The settings of one run. Two runs in one folder do not share it unless they agree."""
        return f"{self.results}/config/{digest}.json"

    def task_data(self, task, split):
        return f"{self.results}/data/tasks/{task}/{split}.json"

    @property
    def tokenizer(self):
        return f"{self.results}/data/tokenizer/tokenizer.json"

    @property
    def blocks(self):
        return f"{self.results}/data/blocks/manifest.json"

    def checkpoint(self, stage, model):
        return f"{self.results}/{stage}/{model}/done.json"

    def finetuned(self, model, task, seed):
        return f"{self.results}/finetune/{model}/{task}/seed{seed}/done.json"

    @property
    def shipped(self):
        """What `muxplm demo` ships, made again."""
        return f"{self.results}/shipped/model.safetensors"

    def scores(self, model, task):
        return f"{self.results}/scores/{model}/{task}.json"

    def published(self, model, task):
        """What the authors fine-tuned, converted."""
        return f"{self.results}/published/{model}/{task}/done.json"

    def published_scores(self, model, task):
        return f"{self.results}/published/{model}/{task}/scores.json"

    def ensembles(self, model, task):
        return f"{self.results}/ensembles/{model}/{task}.json"

    def compositions(self, model, task):
        return f"{self.results}/compositions/{model}/{task}.json"

    def muxology(self, model):
        return f"{self.results}/muxology/{model}.json"

    def throughput(self, timed):
        return f"{self.results}/throughput/{timed}.json"

    def table(self, name, suffix):
        return f"{self.results}/tables/{name}.{suffix}"

    def figure(self, name, suffix):
        return f"{self.results}/figures/{name}.{suffix}"

    def claims(self, suffix):
        return f"{self.results}/claims.{suffix}"

    def log(self, job):
        return f"{self.results}/logs/{job}.log"

    def benchmark(self, job):
        return f"{self.results}/benchmarks/{job}.tsv"

    def scratch_folder(self, stage, cell, recipe):
        """Where a training keeps checkpoints. The DAG does not declare it, so a killed job resumes."""
        return f"{self.scratch}/{stage}/{cell}-{recipe}"
