import hashlib

from hypothesis import given
from hypothesis import strategies as st

from stemforge.features.shards.blocks import BySize, assign_shards, cut_blocks


@given(st.integers(0, 5000), st.integers(1, 700))
def test_blocks_tile_the_song(frames: int, block_frames: int) -> None:
    blocks = cut_blocks(frames, block_frames=block_frames)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    covered = [
        f for block in blocks for f in range(block.start_frame, block.start_frame + block.frames)
    ]
    assert covered == list(range(frames))
    assert all(block.frames == block_frames for block in blocks[:-1])


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 1000), min_size=1), st.integers(1, 8))
def test_every_song_goes_to_one_shard(frames: dict[str, int], shards: int) -> None:
    dealt = assign_shards(frames, shards=shards)
    assert sorted(name for names in dealt for name in names) == sorted(frames)
    assert len(dealt) == min(shards, len(frames))
    loads = [sum(frames[name] for name in names) for names in dealt]
    # Greedy by fewest frames: no two shards differ by more than the longest song.
    assert max(loads) - min(loads) <= max(frames.values())


def test_songs_are_dealt_in_the_order_of_their_hash() -> None:
    names = ["a", "b", "c", "d"]
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert assign_shards(dict.fromkeys(names, 10), shards=2) == [order[0::2], order[1::2]]


def test_the_listing_order_does_not_matter() -> None:
    frames = {"x": 5, "y": 9, "z": 2}
    backwards = dict(reversed(frames.items()))
    assert assign_shards(frames, shards=2) == assign_shards(backwards, shards=2)


def test_shards_by_size() -> None:
    # A uint8 frame of 1024 bins in stereo is 2048 bytes; five sources: 10 240. 256 MB are 25 000.
    rule = BySize(frame_bytes=10_240)
    assert [rule.count(frames) for frames in (0, 1, 25_000, 25_001, 50_000, 837_000)] == [
        1, 1, 1, 2, 2, 34,
    ]  # fmt: skip
