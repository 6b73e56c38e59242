"""The `stemforge` command: each module adds one command and runs it. Only main imports them.

Only features, train, train_cluster, release and import-config read params.yaml.

- main: the command line, and its entry point
- separate: songs to stems
- live: stems while the music plays
- web: a page that separates songs in the browser
- models: models that have a name: lists, fetches, removes them
- score: scores of estimates, and a leaderboard
- report: a page of scores to look at and listen to
- import_scores: adds the scores of other methods to the comparison
- export: models to SavedModel and TFLite
- spleeter: converts Deezer's checkpoints and configurations
- corpus: fetches a corpus by its name
- features: the feature job, also on Flink and Dataflow
- train: one model, also as one of several workers
- train_cluster: several workers on this machine
- release: the stages' outputs as a release with a name and a version
- verify: checks a release or a features folder
- info: describes a model
"""
