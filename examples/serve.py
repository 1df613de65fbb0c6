"""Serves a classifier over HTTP; requests that come together share a pass.

    pip install 'muxplm[serving]'
    python examples/serve.py my-model --port 8000
    curl localhost:8000/predict -H 'Content-Type: application/json' -d '{"text": "a fine film"}'

The folder is one of `muxplm export` or `muxplm convert`, for torch or for onnxruntime.
"""

import argparse

import litserve
from transformers import AutoConfig

from muxplm.precision import autocast
from muxplm.prediction import load, prepare


class Classifier(litserve.LitAPI):
    def __init__(self, folder: str, precision: str, **batching):
        super().__init__(**batching)
        self.folder, self.precision = folder, precision

    def setup(self, device):
        self.answer, self.settings = load(self.folder, ["text"], 1)  # on a GPU, if there is one
        prepare(self.answer.model, self.precision, self.folder)

    def decode_request(self, request):
        return request["text"]

    def batch(self, texts):
        return texts  # a list, which is tokenised together and goes through the model by length

    def predict(self, texts):
        with autocast(self.precision, self.answer.device.type):
            return self.answer.answers(texts, len(texts), **self.settings)

    def unbatch(self, answers):
        return answers

    def encode_response(self, answer):
        return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--groups", type=int, default=8, help="Groups of N in one pass, at most.")
    parser.add_argument("--wait", type=float, default=0.02, help="Seconds, for a pass to fill.")
    parser.add_argument("--precision", default="auto", help="bf16, fp32 or auto, as for predict.")
    given = parser.parse_args()
    instances = getattr(AutoConfig.from_pretrained(given.folder), "num_instances", 1)
    batching = {"max_batch_size": given.groups * instances, "batch_timeout": given.wait}
    server = litserve.LitServer(Classifier(given.folder, given.precision, **batching), "cpu")
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False)


if __name__ == "__main__":
    main()
