"""The stages of dvc.yaml, in its order; nobody imports them.

Each reads params.yaml, works in .work/ (pipelines.running.work) and renames the complete result to
its place in pipelines.paths. Only `dvc repro` calls them; people use the commands.

- corpus: the generated smoke corpus, where corpus.root names it
- decode: stems to WAV files and the manifest
- copies: training songs in another pitch and tempo
- features: WAV files to TFRecords
- train: TFRecords to one model
- separate: test tracks to estimates
- evaluate: estimates to scores
- leaderboard: scores to tables and plots
- report: scores and audio to a page to look at and listen to
- export: models to SavedModel and TFLite
"""
