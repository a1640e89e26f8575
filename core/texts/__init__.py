"""Text for a model: sources -> documents -> splits -> tokens -> sequences.

text_source says where texts are, readers open each format, documents holds what was read; form says how they
become tokens and layout rows, and packing draws the sequences that the rest of the program works on.
"""

from core.texts.documents import Document, Texts, read_texts, split_of
from core.texts.packing import available, pack
from core.texts.sequences import Sequences
from core.texts.text_source import TextSource, parse_source

__all__ = [
    "Document",
    "Sequences",
    "TextSource",
    "Texts",
    "available",
    "pack",
    "parse_source",
    "read_texts",
    "split_of",
]
