import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from published_files import conllu, made_published, write_treebank
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.tasks import DataError, Greek
from tangentscope.tasks.greek import TREEBANKS, parts_of

TRAIN, DEV, TEST = (f"grc_ptnk-ud-{part}.conllu" for part in ("train", "dev", "test"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_treebank(tmp_path / "ud_grc/UD_Ancient_Greek-PTNK")


def text(*sentences: list[tuple[str, str, str]]) -> str:
    """CoNLL-U of (id, form, tag)."""
    rows = ["".join(f"{i}\t{form}\t_\t{tag}" + "\t_" * 6 + "\n" for i, form, tag in one) for one in sentences]
    return "".join(f"{row}\n" for row in rows)


def words(*pairs: tuple[str, str]) -> list[tuple[str, str, str]]:
    return [(str(place), *pair) for place, pair in enumerate(pairs, start=1)]


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_words_become_codes_of_the_training_forms(folder: Path, tmp_path: Path):
    (folder / TRAIN).write_text(text(words(("ὁ", "DET"), ("λόγος", "NOUN")), words(("λόγος", "NOUN"))))
    (folder / DEV).write_text(text(words(("ὁ", "DET"))))
    (folder / TEST).write_text(text(words(("Νόμος", "NOUN"), ("ὁ", "DET"), (",", "PUNCT"))))
    data = Greek(partial=True).load(tmp_path)
    assert data.valid is not None
    features = len(parts_of("ὁ"))
    assert (data.input_shape, data.outputs) == ((3, features), 3)
    assert data.codes == {"words": (4, 3, *[4] * (features - 2))}, "padding, unknown, and what the two forms have"
    article, word, unknown = data.train.inputs[0, 0], data.train.inputs[0, 1], data.test.inputs[0, 0]
    assert torch.equal(data.train.inputs[1], torch.stack([word, 0 * word, 0 * word]))
    assert torch.equal(data.test.inputs[0, 1], article)
    assert torch.equal(data.valid.inputs[0, 0], article)
    assert article.min() >= 2
    assert word.min() >= 2
    assert not torch.equal(article, word)
    same = [a == b for a, b in zip(parts_of("Νόμος"), parts_of("λόγος"), strict=True)]
    assert unknown.tolist() == [int(code) if alike else 1 for code, alike in zip(word, same, strict=True)]
    assert (data.test.inputs[0, 2] == 1).all(), "training has no such sign"
    assert data.train.targets.tolist() == [[0, 1, -1], [1, -1, -1]]  # DET, NOUN, PUNCT
    assert data.test.targets.tolist() == [[1, 0, 2]]


def test_parts_tell_endings_and_capitals_and_no_accents():
    assert parts_of("Ἀβραάμ") == ("Ἀβραάμ", "capital", "μ", "αμ", "ααμ", "ρααμ", "α", "αβ", "αβρ")
    assert parts_of("ὁ")[1:] == ("letter", *["ο"] * 7)
    assert parts_of("·")[1] == "other"
    assert parts_of("a\u0301")[0] == "\u00e1", "one way to write an accent"


def test_multiword_tokens_and_empty_nodes_are_no_words(folder: Path, tmp_path: Path):
    plain = words(("κ", "CCONJ"), ("ἀγώ", "PRON"))
    (folder / TRAIN).write_text(text([("1-2", "κἀγώ", "_"), *plain, ("2.1", "ἐστίν", "VERB")]))
    before = Greek(partial=True).load(tmp_path).fingerprint
    (folder / TRAIN).write_text(text(plain))
    assert Greek(partial=True).load(tmp_path).fingerprint == before


# loss and score


def outputs_and_targets(padding: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 6, 4), torch.randint(4, (3, 6))
    targets[0, 2:], targets[1, 5:] = -1, -1
    outputs = F.pad(outputs * (targets >= 0)[..., None], (0, 0, 0, padding))
    return outputs, F.pad(targets, (0, padding), value=-1)


def test_loss_and_accuracy_are_of_words():
    outputs, targets = outputs_and_targets()
    losses = Greek().loss(outputs, targets)
    for loss, logits, tags, length in zip(losses, outputs, targets, (2, 5, 6), strict=True):
        torch.testing.assert_close(loss, F.cross_entropy(logits[:length], tags[:length]))
    right = sum(int(o[:k].argmax(1).eq(t[:k]).sum()) for o, t, k in zip(outputs, targets, (2, 5, 6), strict=True))
    assert Greek().score(outputs, targets) == right / 13


def test_padding_counts_nowhere():
    outputs, targets = outputs_and_targets()
    padded, padded_targets = outputs_and_targets(padding=5)
    padded.requires_grad_()
    losses = Greek().loss(padded, padded_targets)
    torch.testing.assert_close(losses, Greek().loss(outputs, targets))
    assert Greek().score(padded, padded_targets) == Greek().score(outputs, targets)
    losses.sum().backward()
    assert padded.grad is not None
    assert padded.grad[padded_targets == -1].abs().max() == 0
    assert (padded.grad[padded_targets >= 0].abs().sum(1) > 0).all()


def test_the_kernel_is_of_means_over_words():
    outputs, targets = outputs_and_targets(padding=2)

    class Given(nn.Module):
        def forward(self, codes: Tensor) -> Tensor:
            return outputs

    codes = (targets >= 0).long()[..., None].expand(-1, -1, 2)
    found = Greek().observed(Given())(codes)
    for mean, logits, length in zip(found, outputs, (2, 5, 6), strict=True):
        torch.testing.assert_close(mean, logits[:length].mean(0))
    with pytest.raises(ValueError, match="greek's loss is no function"):
        Greek().observed_loss(found, targets)


def test_word_dropout_hides_features_of_words_and_no_padding():
    inputs = torch.randint(2, 50, (40, 60, 5))
    inputs[:, 30:] = 0
    task, before = Greek(word_dropout=0.2), inputs.clone()
    torch.manual_seed(1)
    found = task.augmented(inputs)
    torch.manual_seed(1)
    assert torch.equal(task.augmented(inputs), found)
    assert torch.equal(inputs, before)
    hidden = found != inputs
    assert (found[hidden] == 1).all()
    assert not hidden[:, 30:].any()
    assert hidden[:, :30].double().mean((0, 1)).sub(0.2).abs().max() < 0.05
    assert Greek().augmented(inputs) is inputs


# files


def test_the_complete_published_treebank_needs_no_asking(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_published(monkeypatch, Greek, folder)
    data = Greek().load(tmp_path)
    assert (len(data.train), len(data.test), len(data.splits["valid"])) == (60, 60, 10)
    assert data.source.startswith("UD Ancient Greek PTNK r2.17, sentences: 60 train (")
    assert data.source.endswith(f"from the published files in {folder}")


def test_sums_are_gits_own(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(Greek.published.md5, TRAIN, "257cc5642cb1a054f08cc83f2d943e56fd3ebe99")  # type: ignore[index]
    assert Greek.published.is_published(TRAIN, b"foo\n"), "as `git hash-object` says"
    assert not Greek.published.is_published(TRAIN, b"foo")


def test_without_training_sentences_those_to_choose_by_are_trained_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made_published(monkeypatch, Greek, folder)
    dev = Greek().load(tmp_path).splits["valid"]
    (folder / TRAIN).unlink()
    with pytest.raises(DataError, match=rf"is not the complete .* \({TRAIN} missing\): .* set task.partial to true"):
        Greek().load(tmp_path)
    data = Greek(partial=True).load(tmp_path)
    assert data.valid is None
    assert [len(tags) for tags in (data.train, data.test)] == [10, 60]
    assert sorted((data.train.targets >= 0).sum(1)) == sorted((dev.targets >= 0).sum(1))
    said = f"from an incomplete treebank in {folder} ({TRAIN} missing, so that {DEV} is trained on)"
    assert data.source.endswith(said)


def test_files_that_are_not_the_published_ones_are_taken_on_request_only(folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match=rf"\({TRAIN}, {DEV}, {TEST} not as published\)") as caught:
        Greek().load(tmp_path)
    assert one_line(caught)
    assert f"({TRAIN}, {DEV}, {TEST} not as published)" in Greek(partial=True).load(tmp_path).source


@pytest.mark.parametrize("gone", [[TEST], [TRAIN, DEV]])
def test_there_must_be_sentences_to_train_and_to_test_on(gone: list[str], folder: Path, tmp_path: Path):
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(DataError, match=rf"expected {TEST} and at least one of {TRAIN} and {DEV}: put them there"):
        Greek(partial=True).load(tmp_path)


def test_another_treebank_is_looked_for_in_its_own_folder(folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no UD Ancient Greek PROIEL .*put grc_proiel.*, from https:"):
        Greek(treebank="proiel", partial=True).load(tmp_path)
    home = TREEBANKS["proiel"].folders(tmp_path)[1]
    home.mkdir(parents=True)
    for name in TREEBANKS["proiel"].md5:
        (home / name).write_text(conllu(5, 0))
    assert "PROIEL" in Greek(treebank="proiel", partial=True).load(tmp_path).source


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut within a line": lambda content: content[:-9],
    "cut after a line": lambda content: content[:-1],
    "cut within a letter": lambda content: content[: content.index("λόγος".encode()) + 1],
    "empty": lambda content: b"",
    "no CoNLL-U": lambda content: b"<html>404 Not Found</html>\n\n",
    "a column too few": lambda content: content.replace(b"\t_\n", b"\n", 1),
    "a line lost": lambda content: content.replace(b"\n1\t", b"\n3\t", 1),
    "no words": lambda content: text([("1-2", "κἀγώ", "_")]).encode(),
    "an unknown tag": lambda content: content.replace(b"\tNOUN\t", b"\tNUON\t", 1),
    "no tag": lambda content: content.replace(b"\tNOUN\t", b"\t_\t", 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(damage: str, folder: Path, tmp_path: Path):
    path = folder / DEV
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DataError) as caught:
        Greek(partial=True).load(tmp_path)
    assert one_line(caught).startswith(str(path))
    assert one_line(caught).endswith("put an undamaged copy there")


def test_a_file_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=rf"{TRAIN} cannot be read \(Permission denied\): put an undamaged"):
        Greek(partial=True).load(tmp_path)


REAL = Path(os.environ.get("TANGENTSCOPE_DATA", "none"))


@pytest.mark.skipif(
    not (REAL / "ud_grc/UD_Ancient_Greek-PTNK" / TRAIN).is_file(),
    reason="TANGENTSCOPE_DATA names no folder with ud_grc/UD_Ancient_Greek-PTNK",
)
def test_the_real_treebank_is_read_whole():
    data = Greek().load(REAL)
    assert {name: (len(split), int((split.targets >= 0).sum())) for name, split in data.splits.items()} == {
        "train": (727, 18_440),
        "valid": (439, 10_723),
        "test": (410, 10_346),
    }
    assert (data.input_shape, data.outputs) == ((72, 9), 15)
    unseen = (data.test.inputs[..., 0] == 1).sum() / (data.test.targets >= 0).sum()
    assert 0.13 < unseen < 0.16
    assert "published files" in data.source
