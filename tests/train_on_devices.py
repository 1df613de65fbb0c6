"""Three steps of Trainer on the CPU, in as many processes as torch.distributed.run starts.

Arguments: the folder to save to, rows per process and pass, accumulated passes.
"""

import sys

import torch
from conftest import make_config
from transformers import Trainer, TrainingArguments

from muxplm.models.modeling import MuxForSequenceClassification


def make_model():
    torch.manual_seed(0)
    config = make_config(n=3, num_labels=4, classifier_dropout=0.0)
    config.encoder.hidden_dropout_prob = config.encoder.attention_probs_dropout_prob = 0.0
    return MuxForSequenceClassification(config)


def main(folder, rows, accumulation):
    torch.manual_seed(1)
    ids, labels = torch.randint(2, 50, (36, 12)), torch.randint(4, (36,))
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    arguments = TrainingArguments(
        str(folder),
        max_steps=3,
        per_device_train_batch_size=int(rows),
        gradient_accumulation_steps=int(accumulation),
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(make_model(), arguments, train_dataset=data)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*sys.argv[1:])
