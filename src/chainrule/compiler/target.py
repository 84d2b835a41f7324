"""The machine that code is made for: its vectors, its registers, and the tiles that fit them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "Kind", "Target", "target_for"]


@dataclass(frozen=True)
class Kind:
    """An instruction set, as the code generator sees it.

    `tiles` are the register tiles of a matrix product in float32, (rows, vectors a row) from the
    widest: rows·vectors accumulators, the vectors of B and one broadcast of A fit the registers.
    """

    name: str
    vector_bytes: int
    registers: int
    fma: bool
    tiles: tuple[tuple[int, int], ...]

    def tile(self, columns: int, lanes: int) -> tuple[int, int]:
        """Rows and vectors of the tile that wastes least of so many columns."""

        def waste(tile: tuple[int, int]) -> tuple[int, int]:
            return -(-columns // (tile[1] * lanes)) * tile[1], abs(tile[0] - 6)

        return min(self.tiles, key=waste)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("avx512", 64, 32, True, ((6, 4), (9, 3), (14, 2), (16, 1))),
        Kind("avx2", 32, 16, True, ((4, 3), (6, 2), (12, 1))),
        Kind("neon", 16, 32, True, ((6, 4), (8, 3), (12, 2), (16, 1))),
        # Without fused multiply-add `llvm.fma` would be a library call a lane: multiply, then add.
        Kind("plain", 16, 16, False, ((4, 3), (6, 2), (12, 1))),
    )
}


@dataclass(frozen=True)
class Target:
    """A processor: LLVM's names for it, and its kind."""

    triple: str
    cpu: str
    features: str
    kind: Kind

    def lanes(self, bits: int) -> int:
        """How many numbers of so many bits one vector holds."""
        return self.kind.vector_bytes * 8 // bits

    @property
    def is_x86(self) -> bool:
        """Whether it has x86's instructions, as `pause`."""
        return self.triple.startswith(("x86_64", "i686", "i386"))

    @property
    def is_windows(self) -> bool:
        """Whether the system's calls are those of Windows."""
        return "windows" in self.triple


def target_for(triple: str, cpu: str, features: str) -> Target:
    """The target that LLVM describes by these three strings, with the widest kind it can run."""
    has = {word[1:] for word in features.split(",") if word.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        kind = KINDS["neon"]
    elif {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= has:
        kind = KINDS["avx512"]
    elif {"avx2", "fma"} <= has:
        kind = KINDS["avx2"]
    else:
        kind = KINDS["plain"]
    return Target(triple, cpu, features, kind)
