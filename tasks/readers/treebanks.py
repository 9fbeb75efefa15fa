"""Reading CoNLL-U, the format of Universal Dependencies' treebanks: words and their parts of speech."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import conllu
from conllu.exceptions import ParseException

from tangentscope.tasks.errors import DataError

COLUMNS = 10
TAGS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
MEND = "put an undamaged copy there"


class Sentence(NamedTuple):
    """The words of a sentence and the universal part of speech of each."""

    forms: list[str]
    tags: list[str]


def read_sentences(path: Path, content: bytes) -> list[Sentence]:
    """The sentences of a file, in its order. Lines of multiword tokens (`3-4`) and empty nodes (`3.1`) are no words.

    Raises:
        DataError: if the file has no sentence or one without words, breaks off, or is no CoNLL-U with these tags.
    """
    try:
        text = content.decode()
        parsed = conllu.parse(text)
    except (UnicodeDecodeError, ParseException) as error:
        raise DataError(f"{path} is no CoNLL-U ({' '.join(str(error).split())[:80]}): {MEND}") from error
    if not parsed or not text.endswith("\n\n"):
        raise DataError(f"{path} is cut off: it ends with {text[-20:]!r}, expected a sentence and a blank line: {MEND}")
    return [
        _sentence(
            f"{path} is damaged in sentence {number} ({tokens.metadata.get('sent_id', 'without sent_id')})", tokens
        )
        for number, tokens in enumerate(parsed, start=1)
    ]


def _sentence(place: str, tokens: Sequence[Mapping[str, Any]]) -> Sentence:
    if short := [len(token) for token in tokens if len(token) != COLUMNS]:
        raise DataError(f"{place}: a line of {short[0]} columns, expected {COLUMNS}: {MEND}")
    words = [token for token in tokens if isinstance(token["id"], int)]
    if not words or [word["id"] for word in words] != list(range(1, len(words) + 1)):
        raise DataError(f"{place}: words are numbered {[word['id'] for word in words]}, expected 1, 2, …: {MEND}")
    if strange := [word["upos"] for word in words if word["upos"] not in TAGS.split()]:
        raise DataError(f"{place}: part of speech {strange[0]!r}, expected one of {TAGS}: {MEND}")
    return Sentence([word["form"] for word in words], [word["upos"] for word in words])
