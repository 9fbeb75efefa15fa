"""Text files as editors and version control on any system leave them."""

import codecs


def plain(content: bytes) -> bytes:
    """The bytes of a text in UTF-8 without a byte-order mark, each line ended by a line feed."""
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
