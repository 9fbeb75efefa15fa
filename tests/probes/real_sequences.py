"""Sequence networks of transformers, peft and torch, small enough for a processor, each with ten outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

OUTPUTS, WORDS, LENGTH, WIDTH, LAYERS, HEADS = 10, 500, 24, 96, 3, 4
"""Ten classes or ten words' logits; the vocabulary; tokens of a sequence; and the size of the networks."""

Builder = Callable[[], nn.Module]


class Read(nn.Module):
    """A network of transformers, and what is read off its answer as [N, 10]."""

    def __init__(self, model: nn.Module, read: Callable[[Any], Tensor], head: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.read, self.head = model, read, head

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.read(self.model(tokens))
        return found if self.head is None else self.head(found)


def logits(answer: Any) -> Tensor:
    return answer.logits


def next_words(answer: Any) -> Tensor:
    """Logits of the first ten words as the next one."""
    return answer.logits[:, -1, :OUTPUTS]


def averaged(answer: Any) -> Tensor:
    return answer.last_hidden_state.mean(1)


def pooled(answer: Any) -> Tensor:
    return answer.pooler_output


def of_transformers(
    kind: str, config: str, read: Callable[[Any], Tensor], headed: bool = False, **sizes: Any
) -> Builder:
    """``kind`` built from ``config`` of these sizes; ``headed``: with a linear layer on what is read."""

    def build() -> nn.Module:
        import transformers

        model = getattr(transformers, kind)(getattr(transformers, config)(vocab_size=WORDS, **sizes))
        return Read(model, read, nn.Linear(WIDTH, OUTPUTS) if headed else None)

    return build


PLACES = 64
GPT2: dict[str, Any] = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": PLACES}
ENCODER: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}


def lora(base: Builder, targets: list[str], trained: list[str]) -> Builder:
    """Low-rank updates (Hu et al. 2021) of the layers called ``targets``; of the rest, only ``trained`` learns."""

    def build() -> nn.Module:
        import peft

        config = peft.LoraConfig(
            r=4, target_modules=targets, modules_to_save=trained, fan_in_fan_out="c_attn" in targets
        )
        return peft.get_peft_model(base(), config)

    return build


class Recurrent(nn.Module):
    """The last state of a recurrent network of two layers, read by a linear one."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body = kind(16, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


class EncoderOfTorch(nn.Module):
    """torch's own transformer over learned words and places, averaged over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(tokens) + self.places).mean(1))


def sentences(n: int) -> Tensor:
    """No word is 0, which some networks take for padding."""
    return torch.randint(1, WORDS, (n, LENGTH))


def captions(n: int) -> Tensor:
    """As CLIP wants them: the end of a text is the word of the highest number, here at the last place."""
    tokens = torch.randint(1, WORDS - 1, (n, LENGTH))
    tokens[:, -1] = WORDS - 1
    return tokens


def features(n: int) -> Tensor:
    return torch.randn(n, LENGTH, 16)


gpt2 = of_transformers("GPT2LMHeadModel", "GPT2Config", next_words, **GPT2, bos_token_id=0, eos_token_id=0)
bert = of_transformers("BertForSequenceClassification", "BertConfig", logits, **ENCODER, intermediate_size=4 * WIDTH,
    max_position_embeddings=PLACES, num_labels=OUTPUTS)  # fmt: skip

SEQUENCE_MODELS: dict[str, tuple[Builder, Callable[[int], Tensor]]] = {
    "gpt2": (gpt2, sentences),
    "llama": (of_transformers("LlamaForCausalLM", "LlamaConfig", next_words, **ENCODER, intermediate_size=256,
        num_key_value_heads=2), sentences),
    "bert": (bert, sentences),
    "distilbert": (of_transformers("DistilBertForSequenceClassification", "DistilBertConfig", logits, dim=WIDTH,
        n_layers=LAYERS, n_heads=HEADS, hidden_dim=4 * WIDTH, max_position_embeddings=PLACES, num_labels=OUTPUTS),
        sentences),
    "mamba": (of_transformers("MambaForCausalLM", "MambaConfig", next_words, hidden_size=WIDTH,
        num_hidden_layers=LAYERS, state_size=8), sentences),
    "t5": (of_transformers("T5EncoderModel", "T5Config", averaged, headed=True, d_model=WIDTH, d_kv=24,
        d_ff=4 * WIDTH, num_layers=LAYERS, num_heads=HEADS), sentences),
    "clip_text": (of_transformers("CLIPTextModel", "CLIPTextConfig", pooled, headed=True, **ENCODER,
        intermediate_size=4 * WIDTH, max_position_embeddings=PLACES, bos_token_id=0, eos_token_id=WORDS - 1), captions),
    "lora_gpt2": (lora(gpt2, ["c_attn"], []), sentences),
    "lora_bert": (lora(bert, ["query", "value"], ["classifier"]), sentences),
    "lstm": (lambda: Recurrent(nn.LSTM), features),
    "gru": (lambda: Recurrent(nn.GRU), features),
    "transformer_encoder": (EncoderOfTorch, sentences),
}  # fmt: skip
