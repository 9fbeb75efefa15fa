"""Parts of speech in Ancient Greek: three treebanks of Universal Dependencies (Nivre et al. 2020), release 2.17."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial as with_arguments
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError, MissingDataError
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.readers.treebanks import Sentence, read_sentences
from tangentscope.tasks.text import plain

RELEASE = "r2.17"
PADDING, UNKNOWN, FIRST = 0, 1, 2  # codes: of no word, of what training has not, and from where the others begin
NO_TAG = -1
SUFFIXES, PREFIXES = (1, 2, 3, 4), (1, 2, 3)  # letters


def _download(folder: str, names: Sequence[str], root: Path) -> None:
    from torchvision.datasets.utils import download_url  # a second to load, and needed here only

    for name in names:
        url = f"https://raw.githubusercontent.com/UniversalDependencies/{folder}/{RELEASE}/{name}"
        download_url(url, str(root / "ud_grc" / folder), name)


def _treebank(title: str, train: str, dev: str, test: str) -> Published:
    """Sums are git's own, from the treebank's repository: no others are published."""
    folder = f"UD_Ancient_Greek-{title}"
    names = [f"grc_{title.lower()}-ud-{part}.conllu" for part in ("train", "dev", "test")]
    return Published(
        *("greek", f"UD Ancient Greek {title} {RELEASE}", f"ud_grc/{folder}"),
        dict(zip(names, (train, dev, test), strict=True)),
        f"https://github.com/UniversalDependencies/{folder}/tree/{RELEASE}",
        with_arguments(_download, folder, names),
    )


TREEBANKS = {
    "ptnk": _treebank(
        "PTNK",
        train="a2ad9cbd14dbabf628b0bee8459b7fb5721e268a",
        dev="66cfecdceee84afd75241fa3f12faf2a5dd19489",
        test="48c136d067f395f2d4767ed439b22f15100a730f",
    ),
    "proiel": _treebank(
        "PROIEL",
        train="e94bec186b96b6e01999ee90564da8ef0835d5c7",
        dev="9d577ada8d7b2e00b1932433ef31dec19778bb8e",
        test="f3a67c563b81ddd5dd350e1d11b2d5e44500dc37",
    ),
    "perseus": _treebank(
        "Perseus",
        train="2a27937241dd3f5f29f13fd418f406bcc7d5ae29",
        dev="e27d43f4b73dc34a08eddfa64e4e8aa830563aa4",
        test="95d33279aeeb22ce21faf33e7aaa9e42b573083d",
    ),
}


class Greek(Task, frozen=True):
    """Tag the words of Ancient Greek sentences with their parts of speech: cross-entropy on a logit for each tag.

    A data point is a sentence. Inputs are int64 `[n, T, features]`, T the words of the longest sentence: codes of a
    word's form and of its parts (see `parts_of`), which also say something of forms that training has not. Each feature
    has its own codes, from the training sentences alone: 0 where a shorter sentence is padded, 1 for what they do not
    have. Targets are int64 `[n, T]`, −1 at padding. Networks put out `[n, T, tags]`, zero at padding.

    The kernel differentiates, for each tag, the mean of its logit over the words of a sentence: `tags` outputs a point.
    All T · tags of them would take T times as many backward passes, 72 for PTNK, and more still in products.

    Args:
        treebank: `ptnk` is the Septuagint's Genesis and Ruth, `proiel` the New Testament and Herodotus, `perseus`
            poetry and prose.
        word_dropout: how probably training sees a feature of a word as unknown, anew in every step.
        partial: whether an incomplete treebank, or files that are not the published ones, will do. Without a file to
            train on, the one to choose by takes its place. Every result says so.
    """

    name: Literal["greek"] = "greek"
    treebank: Literal["ptnk", "proiel", "perseus"] = "ptnk"
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    partial: bool = False

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "accuracy"
    published: ClassVar[Published] = TREEBANKS["ptnk"]
    targets_observed: ClassVar[bool] = False
    observes: ClassVar[str] = "the logit of each tag, averaged over the words of a sentence"

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The official split, `valid` being the development sentences; `TaskData.source` says which files it is of.

        Args:
            data_dir: holds the treebank's CoNLL-U files in `ud_grc/UD_Ancient_Greek-PTNK` (or `-PROIEL`, `-Perseus`).

        Raises:
            DataError: if there are none; if they are incomplete or not the published ones, and `partial` is not set; if
                one is damaged.
        """
        published = TREEBANKS[self.treebank]
        folder = published.folder(data_dir)
        if folder is None:
            raise self._missing(published, data_dir)
        sentences, origin = _read(folder, published, self.partial)
        tags = sorted({tag for part in sentences.values() for sentence in part for tag in sentence.tags})
        longest = max(len(sentence.tags) for part in sentences.values() for sentence in part)
        features = list(zip(*(parts_of(form) for each in sentences["train"] for form in each.forms), strict=True))
        codes = [{part: code for code, part in enumerate(sorted(set(one)), start=FIRST)} for one in features]
        splits = {name: _coded(part, codes, tags, longest) for name, part in sentences.items()}
        counts = ", ".join(
            f"{len(part):,} {name} ({sum(len(sentence.tags) for sentence in part):,} words)"
            for name, part in sentences.items()
        )
        return TaskData(
            train=splits["train"],
            test=splits["test"],
            valid=splits.get("valid"),
            input_shape=(longest, len(codes)),
            outputs=len(tags),
            source=f"{published.title}, sentences: {counts}, from {origin}",
            codes={"words": tuple(FIRST + len(one) for one in codes)},
        )

    def augmented(self, inputs: Tensor) -> Tensor:
        """`[m, T, features]`, see `word_dropout`."""
        if not self.word_dropout:
            return inputs
        hidden = (torch.rand(inputs.shape, device=inputs.device) < self.word_dropout) & (inputs != PADDING)
        return inputs.masked_fill(hidden, UNKNOWN)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats a word, `[n]`, of logits `[n, T, tags]` and tags `[n, T]`: the mean over its words.

        So each sentence weighs the same in a batch, as it does in the kernel, and none for its length or its padding.
        """
        losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=NO_TAG)
        words = targets != NO_TAG
        return losses.view_as(targets).sum(1) / words.sum(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, in [0, 1]: the share of all words at whose tag the logits `[n, T, tags]` are largest."""
        words = targets != NO_TAG
        return int(((outputs.argmax(2) == targets) & words).sum()) / int(words.sum())

    def observed(self, network: nn.Module) -> nn.Module:
        """From codes `[n, T, features]` to the network's logits, averaged over words, `[n, tags]`."""
        return _MeanOverWords(network)

    def observed_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """None there is: the loss is of single words, and the kernel of their mean.

        Raises:
            ValueError: always.
        """
        raise ValueError("the kernel is of means over words, of which greek's loss is no function: leave this out")

    def _missing(self, published: Published, data_dir: Path | None) -> MissingDataError:
        if published is self.published or data_dir is None:
            return published.missing(data_dir)
        where = " or ".join(map(str, published.folders(data_dir)))
        files = ", ".join(published.md5)
        return MissingDataError(f"no {published.title} in {where}: put {files} there, from {published.home}")


def parts_of(form: str) -> tuple[str, ...]:
    """What is told of a word: its form; whether it is capitalised; the last and first letters, without accents."""
    initial = "capital" if form[:1].isupper() else "letter" if form[:1].isalpha() else "other"
    decomposed = unicodedata.normalize("NFD", form.lower())
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    ends = [bare[-letters:] for letters in SUFFIXES] + [bare[:letters] for letters in PREFIXES]
    return unicodedata.normalize("NFC", form), initial, *ends


class _MeanOverWords(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor) -> Tensor:
        words = (codes[..., 0] != PADDING).sum(1, keepdim=True)
        return self.network(codes).sum(1) / words  # the network is zero at padding


def _coded(sentences: list[Sentence], codes: list[dict[str, int]], tags: list[str], longest: int) -> Split:
    inputs = torch.full((len(sentences), longest, len(codes)), PADDING)
    targets = torch.full((len(sentences), longest), NO_TAG)
    numbers = {tag: number for number, tag in enumerate(tags)}
    for row, sentence in enumerate(sentences):
        words = [[one.get(p, UNKNOWN) for one, p in zip(codes, parts_of(f), strict=True)] for f in sentence.forms]
        inputs[row, : len(words)] = torch.tensor(words)
        targets[row, : len(words)] = torch.tensor([numbers[tag] for tag in sentence.tags])
    return Split(inputs, targets)


def _read(folder: Path, published: Published, partial: bool) -> tuple[Mapping[str, list[Sentence]], str]:
    """The sentences of each split, and a phrase that says which files these are."""
    found = {name: _content(path) for name, path in published.located(folder).items()}
    absent = [name for name in published.md5 if name not in found]
    strange = [name for name, content in found.items() if not published.is_published(name, content)]
    wrong = [f"{', '.join(absent)} missing"] * bool(absent) + [f"{', '.join(strange)} not as published"] * bool(strange)
    if wrong and not partial:
        raise DataError(
            f"{folder} is not the complete {published.title} ({'; '.join(wrong)}): put the published files there, or "
            "set task.partial to true to use what is there, which every result will say"
        )
    train, dev, test = published.md5
    if test not in found or not {train, dev} & found.keys():
        raise DataError(
            f"{folder} has {', '.join(found)} of {published.title}, expected {test} and at least one of {train} and "
            f"{dev}: put them there"
        )
    files = {"train": train, "valid": dev, "test": test}
    if train not in found:
        files = {"train": dev, "test": test}
        wrong[0] += f", so that {dev} is trained on"
    read = {split: read_sentences(folder / name, found[name]) for split, name in files.items() if name in found}
    origin = f"an incomplete treebank in {folder} ({'; '.join(wrong)})" if wrong else f"the published files in {folder}"
    return read, origin


def _content(path: Path) -> bytes:
    try:
        return plain(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): put an undamaged copy there") from error
