"""The `stemforge` command; a module adds its options and runs. Nobody imports them but main.

They read no params.yaml, but for features, train and release, which are run in a checkout.

- main: the command line, and its entry point
- separate: songs to stems
- score: estimates against true stems, and a leaderboard
- import_scores: others' scores into the comparison
- export: models to SavedModel and TFLite
- spleeter: Deezer's checkpoints and configurations into ours
- features: the feature job, also on Flink and Dataflow
- train: one model, also as one of several workers
- train_cluster: several workers on this machine
- release: the stages' outputs by name and version
- verify: a release or a features folder against its own account
- info: what a model is
"""
