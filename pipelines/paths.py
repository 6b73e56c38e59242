"""Where the stages' outputs are, relative to the checkout; dvc.yaml names the same paths."""

from pathlib import Path

STARTER = Path("data/starter")
CORPUS_CARD = Path("data/corpus.json")
DECODED = Path("data/decoded")
TRACKS = Path("data/tracks.parquet")
TRACK_REJECTS = Path("data/track_rejects.parquet")
COPIES = Path("data/copies")
COPY_TRACKS = COPIES / TRACKS.name
FEATURES = Path("data/features")
MODELS = Path("models")
ESTIMATES = Path("estimates")
SCORES = Path("scores")
COMPARISONS = Path("comparisons")
LEADERBOARD = Path("leaderboard")
REPORT = Path("report")
EXPORTS = Path("exports")
RUNS = Path("runs")
