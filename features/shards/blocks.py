"""How a song is cut into blocks of frames, and which shard a song goes to."""

import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass

# Ten minutes of music, with four stems in uint8: seconds of work, and a short upload.
SHARD_BYTES = 256 * 10**6


@dataclass(frozen=True)
class Block:
    """A run of consecutive frames of one song.

    Attributes:
        index: position in the song, from 0.
        start_frame: first frame of the block.
        frames: number of frames; the last block of a song may be shorter.
    """

    index: int
    start_frame: int
    frames: int


def cut_blocks(frames: int, *, block_frames: int) -> list[Block]:
    """Cuts `frames` frames into non-overlapping blocks; the last one may be shorter."""
    starts = range(0, frames, block_frames)
    return [
        Block(index, start, min(block_frames, frames - start)) for index, start in enumerate(starts)
    ]


def name_hash(name: str) -> str:
    """sha256 of a song's name in hex: an order that does not depend on folder listings."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True)
class BySize:
    """How many shards a split gets where no number is set: one for each SHARD_BYTES.

    Attributes:
        frame_bytes: stored bytes of one frame of all sources together.
    """

    frame_bytes: int

    def count(self, frames: int) -> int:
        """The number of shards of a split with this many frames; at least 1."""
        return max(1, -(-frames * self.frame_bytes // SHARD_BYTES))


def assign_shards(frames_by_track: Mapping[str, int], *, shards: int) -> list[list[str]]:
    """Assigns songs to shards of nearly equal length.

    Songs go, in the order of their name's sha256, to the shard with the fewest frames so
    far (the lowest number on a tie), so that the result depends on names and lengths only.

    Args:
        frames_by_track: frames of each song.
        shards: number of shards; at most one per song is made.

    Returns:
        Names per shard, each shard in sha256 order, none empty.
    """
    heap = [(0, shard) for shard in range(min(shards, len(frames_by_track)))]
    dealt: list[list[str]] = [[] for _ in heap]
    for name in sorted(frames_by_track, key=name_hash):
        frames, shard = heapq.heappop(heap)
        dealt[shard].append(name)
        heapq.heappush(heap, (frames + frames_by_track[name], shard))
    return [names for names in dealt if names]
