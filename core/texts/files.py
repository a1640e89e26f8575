"""Text files as lines: plain, or compressed by gzip or zstd; what is no text is refused with its place."""

import gzip
import io
from collections.abc import Iterator
from typing import BinaryIO

from core.errors import InputError
from core.texts.text_source import TextSource, is_text

GROWTH = 200  # times its size that a compressed file may unpack to: texts take 3 to 20 times
_SMALL = 2**26  # bytes that any file may


class _Unpacked(io.RawIOBase):
    """What a compressed file holds, and no more than a text can.

    Errors: InputError for more, OSError and EOFError for a file that is damaged or cut off.
    """

    def __init__(self, stream: BinaryIO, source: TextSource):
        self.stream, self.source = stream, source
        self.left = max(_SMALL, GROWTH * source.file.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.stream.read(len(buffer))
        self.left -= len(part)
        if self.left < 0:
            raise InputError(
                f"The text file {self.source.path!r} unpacks to more than {GROWTH} times its size, which no "
                "text does; unpack it and look."
            )
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _opened(source: TextSource) -> BinaryIO:
    packing, file = source.packing, source.file
    if not packing:
        return open(file, "rb")
    if packing == ".gz":
        return io.BufferedReader(_Unpacked(gzip.open(file), source))  # type: ignore[arg-type]
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(
            f"The text file {source.path!r} needs pyarrow to be read; install pyarrow, or unpack it."
        ) from error
    return io.BufferedReader(_Unpacked(pyarrow.input_stream(str(file), compression="zstd"), source))


def lines(source: TextSource, limit: int = -1) -> Iterator[tuple[int, str]]:
    """(number, line without its end) of its file in UTF-8, whatever ends the lines.

    Errors: InputError for a line that is not UTF-8, has a NUL, or is longer than `limit` characters (-1: any
    length).
    """
    name = source.path
    # bytes that are not UTF-8 become lone surrogates, so that the line they are on can be told
    with io.TextIOWrapper(_opened(source), encoding="utf-8-sig", errors="surrogateescape") as f:
        number = 0
        while line := f.readline(limit + 1 if limit >= 0 else -1):
            number += 1
            line = line.removesuffix("\n")
            if 0 <= limit < len(line):
                raise InputError(f"Line {number} of {name!r} is longer than {limit:,} characters; divide it.")
            if not is_text(line):
                bad = next(c for c in line if "\udc80" <= c <= "\udcff")
                raise InputError(
                    f"Line {number} of {name!r} is not UTF-8 (byte 0x{ord(bad) - 0xDC00:02x}); save the file "
                    "as UTF-8."
                )
            if "\0" in line:
                raise InputError(f"Line {number} of {name!r} has a NUL byte; save the file as plain UTF-8.")
            yield number, line
