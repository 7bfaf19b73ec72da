#!/usr/bin/env bash
# Transformers 5.23.0: under Trainer(gradient_accumulation_steps=k) T5ForConditionalGeneration and BertForSequenceClassification
# train with a loss and a gradient that are k times as large as those of the same samples in one batch. Their forward has
# **kwargs, from which the Trainer concludes that they divide by num_items_in_batch, so it does not divide by k; but they take
# the mean of their own batch. Nothing is said. LlamaForCausalLM, which does divide, is right.
#
# An expert would expect: the same loss and gradient for 8 samples, in one batch or in 4 accumulated batches of 2, as the
# Trainer's documentation says of accumulation; or a warning.
#
# Seen on 2026-11-29, with torch 2.13.0 (CPU) and Python 3.11; against one batch of 8:
#   LlamaForCausalLM, 4 accumulated batches of 2: 1.00 times the loss, 1.00 times the gradient
#   T5ForConditionalGeneration, 4 accumulated batches of 2: 4.00 times the loss, 4.00 times the gradient
#   BertForSequenceClassification, 4 accumulated batches of 2: 4.00 times the loss, 4.00 times the gradient
# The script fails if that changes. A remedy: model.accepts_loss_kwargs = False, before the Trainer is made.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 numpy
cat > "$folder/run.py" <<'PYTHON'
import sys

import torch
import transformers as t

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 32}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0, "vocab_size": 32}
STEADY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORDS = torch.arange(1, 7)
MODELS = {
    t.LlamaForCausalLM: (t.LlamaConfig(**SMALL), lambda i: WORDS),
    t.T5ForConditionalGeneration: (t.T5Config(**T5, decoder_start_token_id=0, pad_token_id=0), lambda i: WORDS),
    t.BertForSequenceClassification: (t.BertConfig(**SMALL, **STEADY), lambda i: torch.tensor(i % 2)),
}


def step(kind, accumulated):
    """Loss and norm of the gradient of one step on 8 samples, in so many batches."""
    config, label = MODELS[kind]
    t.set_seed(0)
    model = kind(config)
    samples = [{"input_ids": WORDS, "labels": label(i)} for i in range(8)]
    arguments = t.TrainingArguments(
        sys.argv[1], per_device_train_batch_size=8 // accumulated, gradient_accumulation_steps=accumulated, max_steps=1,
        learning_rate=0.0, logging_steps=1, max_grad_norm=1e9, report_to=[], use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )
    trainer = t.Trainer(model, arguments, train_dataset=samples)
    trainer.train()
    told = next(entry for entry in trainer.state.log_history if "loss" in entry)
    return told["loss"], told["grad_norm"]


for kind in MODELS:
    (loss, norm), (whole_loss, whole_norm) = step(kind, 4), step(kind, 1)
    print(
        f"{kind.__name__}, 4 accumulated batches of 2: {loss / whole_loss:.2f} times the loss, "
        f"{norm / whole_norm:.2f} times the gradient",
        file=sys.stderr,
    )
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder/out" 2>&1 >/dev/null | grep "accumulated batches")
echo "$seen"
test "$seen" = "LlamaForCausalLM, 4 accumulated batches of 2: 1.00 times the loss, 1.00 times the gradient
T5ForConditionalGeneration, 4 accumulated batches of 2: 4.00 times the loss, 4.00 times the gradient
BertForSequenceClassification, 4 accumulated batches of 2: 4.00 times the loss, 4.00 times the gradient"
