"""Muxology: mean absolute activation and attention entropy of each layer (section 6.2, Appendix D.2).

Only here does a model compute attention by the eager implementation: no other hands out its weights.
"""

import torch

from muxplm import files, lineage, recipes, trained
from muxplm.data.collation import stack
from muxplm.data.prepare import read_blocks
from muxplm.evaluation.language_modeling import BLOCKS
from muxplm.models.build import load_model
from muxplm.models.modeling import MuxModel

GROUPS = 8  # sequences per encoder pass: the attention weights of all layers are held at once
SEED = 0  # which blocks, the same for every model, and which of them share a pass


def write_muxology(settings, name: str):
    """Figure 5's numbers for one pre-trained model (T-MUX: primed) over the muxology split."""
    variant, blocks = settings.variants[name], read_blocks(settings, "muxology")
    folder = lineage.origin(settings, "finetune", name).folder
    model = load_model(variant.recipe.objective or "retrieval", folder)
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(blocks), generator=generator)[:BLOCKS]
    activations, entropy = layer_means(model, stack(blocks[chosen]), variant.n)
    summary = {
        "recipe": recipes.digest(recipes.muxology(settings, name)),
        "model": name,
        "made_with": trained.made_with(),
        "instances": variant.n,
        "layers": len(entropy),
        "blocks": len(chosen),
        "activations": activations,
        "entropy": entropy,
    }
    files.write_json(settings.paths.muxology(name), summary)
    print(f"muxology {name}: {len(chosen)} blocks", flush=True)


@torch.inference_mode()
def layer_means(model, ids: torch.Tensor, instances: int) -> tuple[list[float], list[float]]:
    """For each encoder layer the mean |hidden state| after it, and its attention's entropy in nats.

    ids (R, L), nothing of it padding. The means are over the encoder's sequences, of which there are
    R / N, and their positions, a prefix included; the entropy's over heads too. In float32.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device).set_attn_implementation("eager")
    encode = encoder = model.base_model
    if isinstance(encoder, MuxModel):
        encode, encoder = encoder.encode, encoder.encoder
    seen = []
    with encoder.register_forward_hook(lambda *call: seen.append(_sequence_means(call[-1]))):
        for rows in ids.split(GROUPS * instances):
            encode(rows.to(device), output_hidden_states=True, output_attentions=True)
    activations, entropy = torch.cat(seen, dim=-1).mean(dim=-1).tolist()  # (2, layers, R/N)
    return activations, entropy


def _sequence_means(output) -> torch.Tensor:
    """An encoder's output for B sequences -> (2, layers, B): activations, then entropies."""
    hidden = torch.stack(output.hidden_states[1:])  # without the embeddings: (layers, B, L, H)
    entropy = [torch.special.entr(weights).sum(-1) for weights in output.attentions]
    entropy = torch.stack(entropy)  # of each (B, heads, L, L) -> (layers, B, heads, L)
    return torch.stack([x.flatten(2).mean(-1) for x in (hidden.abs(), entropy)])
