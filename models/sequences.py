"""What networks of sequences share: how they read codes or rows of images, and where their outputs are."""

# n points, t steps, d dim

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import Codes, Model, ModelError, image_shape

PADDING = 0  # the code, in each feature, of a position beyond the end of a shorter sequence


class Tagger(nn.Module):
    """From codes `[n, t, features]` to a label for each step: logits `[n, t, outputs]`, which are zero at padding.

    The features' embeddings are added up. `encoder` maps `[n, t, d]`, and `[n, t]` which is 1 where there is a step and
    0 at padding, to `[n, t, d]`; what it makes of padding must reach no other step.
    """

    def __init__(self, codes: tuple[int, ...], dim: int, outputs: int, encoder: nn.Module, dropout: float):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(count, dim, padding_idx=PADDING) for count in codes])
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight[PADDING + 1 :], std=len(codes) ** -0.5)  # pyright: ignore
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder
        self.head = nn.Linear(dim, outputs)

    def forward(self, codes: Tensor) -> Tensor:
        """The logits."""
        embedded = torch.stack([embedding(codes[..., k]) for k, embedding in enumerate(self.embeddings)])
        there = (codes[..., 0] != PADDING).to(embedded.dtype)
        return self.head(self.encoder(self.dropout(embedded.sum(0)), there)) * there[..., None]


class RowReader(nn.Module):
    """From images `[n, channels, rows, columns]` to `[n, outputs]`: rows are the steps, their means are read out."""

    def __init__(self, input_shape: tuple[int, int, int], dim: int, outputs: int, encoder: nn.Module, dropout: float):
        super().__init__()
        channels, _, columns = input_shape
        self.embedding = nn.Linear(channels * columns, dim)
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder
        self.head = nn.Linear(dim, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        rows = images.transpose(1, 2).flatten(2)  # [n, rows, channels · columns]
        encoded = self.encoder(self.dropout(self.embedding(rows)), rows.new_ones(rows.shape[:2]))
        return self.head(encoded.mean(1))


class SequenceModel(Model, frozen=True):
    """A model of sequences with a vector of `dim` numbers at each step, on words or rows of images.

    Args:
        dim: of the vectors.
        dropout: share of the embeddings set to zero in training; encoders say where else.
    """

    dim: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @abstractmethod
    def encoder(self) -> nn.Module:
        """What stands between embeddings and read-out, see `Tagger`."""

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From images `[n, channels, rows, columns]` to `[n, outputs]`."""
        return RowReader(image_shape(input_shape, self.name), self.dim, outputs, self.encoder(), self.dropout)

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """From codes `[n, t, features]`, 0 at padding, to `[n, t, outputs]`, zero at padding.

        Raises:
            ModelError: if inputs are no sequences of codes.
        """
        return tagger(input_shape, self.dim, outputs, codes, self.encoder(), self.dropout, self.name)


def tagger(
    input_shape: tuple[int, ...], dim: int, outputs: int, codes: Codes, encoder: nn.Module, dropout: float, model: str
) -> Tagger:
    """A network for sequences of codes.

    Raises:
        ModelError: if inputs are not sequences `[t, features]` of one part.
    """
    if len(codes) != 1 or len(input_shape) != 2:
        raise ModelError(
            f"{model} takes sequences [steps, features] of codes, got {', '.join(codes)} of shape {list(input_shape)}: "
            "choose another task or model"
        )
    (counts,) = codes.values()
    return Tagger(counts, dim, outputs, encoder, dropout)
