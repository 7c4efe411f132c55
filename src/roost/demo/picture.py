"""A picture of the Mandelbrot set, in tiles: what the demonstration's jobs compute.

    python -m roost.demo.picture tile 7 FOLDER     renders FOLDER/tile-07.png
    python -m roost.demo.picture assemble FOLDER   joins all tiles into FOLDER/mandelbrot.png

The standard library only, so that it runs on any machine with Python. Every tile is a pure
function of its number: whoever doubts a file can render it again and compare.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

COLUMNS = 6
ROWS = 4
TILES = COLUMNS * ROWS
TILE_PIXELS = 160
WIDTH = COLUMNS * TILE_PIXELS
HEIGHT = ROWS * TILE_PIXELS
RESULT = "mandelbrot.png"

CENTRE = complex(-0.7436, 0.1318)
"""In the valley of the sea horses, where every tile has something to show."""
SPAN = 0.012
"""Width of the whole picture in the complex plane."""
ITERATIONS_MAX = 220
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"

Pixels = list[bytes]
"""An image as its rows, three bytes for each pixel."""


def main(arguments: list[str]) -> int:
    """Render a tile or assemble all; the exit code tells the farm how it went."""
    match arguments:
        case ["tile", number, folder] if number.isdigit() and int(number) < TILES:
            index = int(number)
            write_png(tile_file(Path(folder), index), render(index, tell=True))
        case ["assemble", folder]:
            write_png(Path(folder) / RESULT, assemble(Path(folder)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def tile_file(folder: Path, index: int) -> Path:
    return folder / f"tile-{index:02}.png"


def render(index: int, *, tell: bool = False) -> Pixels:
    """The pixels of one tile; with `tell`, reports progress the way HQueue's jobs do."""
    row, column = divmod(index, COLUMNS)
    step = SPAN / WIDTH
    left = CENTRE.real + (column * TILE_PIXELS - WIDTH / 2) * step
    top = CENTRE.imag - (row * TILE_PIXELS - HEIGHT / 2) * step
    rows: Pixels = []
    for y in range(TILE_PIXELS):
        imaginary = top - y * step
        points = (complex(left + x * step, imaginary) for x in range(TILE_PIXELS))
        rows.append(b"".join(PALETTE[escape_time(point)] for point in points))
        if tell and (y + 1) % 16 == 0:
            print(f"PROGRESS: {y + 1}/{TILE_PIXELS}", flush=True)
    return rows


def escape_time(point: complex) -> int:
    """Steps until the point leaves the circle of radius 2; `ITERATIONS_MAX` if it never does."""
    z = 0j
    for step in range(ITERATIONS_MAX):
        z = z * z + point
        if z.real * z.real + z.imag * z.imag > 4.0:
            return step
    return ITERATIONS_MAX


def assemble(folder: Path) -> Pixels:
    """Join the tiles. Raises `FileNotFoundError` when one is missing."""
    rows: Pixels = []
    for row in range(ROWS):
        tiles = [read_png(tile_file(folder, row * COLUMNS + column)) for column in range(COLUMNS)]
        rows.extend(b"".join(parts) for parts in zip(*tiles, strict=True))
    return rows


def write_png(file: Path, rows: Pixels) -> None:
    """Write an RGB image; the name appears only when the file is complete."""
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    unfinished = file.with_suffix(".part")
    unfinished.write_bytes(
        _PNG_HEAD + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    )
    unfinished.replace(file)


def read_png(file: Path) -> Pixels:
    """Read what `write_png` wrote, checking every checksum. Raises `ValueError` for other files."""
    data = file.read_bytes()
    if not data.startswith(_PNG_HEAD):
        raise ValueError(f"{file} is not a PNG file")
    chunks: dict[bytes, bytes] = {}
    at = len(_PNG_HEAD)
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if data[at : at + size + 12] != _chunk(kind, body):
            raise ValueError(f"{file} is damaged at byte {at}")
        chunks[kind] = body
        at += size + 12
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    raw = zlib.decompress(chunks[b"IDAT"])
    stride = width * 3 + 1
    if len(raw) != stride * height:
        raise ValueError(f"{file} has {len(raw)} bytes of pixels instead of {stride * height}")
    return [raw[y * stride + 1 : (y + 1) * stride] for y in range(height)]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _palette() -> list[bytes]:
    """From deep blue over white to amber and back, black for the set itself."""
    stops = ((4, 8, 60), (32, 107, 203), (237, 255, 255), (255, 170, 0), (60, 12, 30))
    colours = []
    for step in range(ITERATIONS_MAX):
        place = (step / ITERATIONS_MAX) ** 0.6 * 2 * len(stops)
        first, share = int(place), place % 1
        pairs = zip(stops[first % len(stops)], stops[(first + 1) % len(stops)], strict=True)
        colours.append(bytes(round(a + (b - a) * share) for a, b in pairs))
    return [*colours, b"\0\0\0"]


PALETTE = _palette()
"""Colour by escape time."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
