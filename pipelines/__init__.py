"""Where things run: the stages of dvc.yaml, and the `stemforge` command.

- stages: a module for each stage of dvc.yaml
- commands: a module for each `stemforge` command
- running: what stages and commands share
- pretrained: models that are called by a name or an address, fetched and kept
- live: separation while the music plays
- scoring: tracks to scores, side by side and resumable
- code: the code that decides a stage's output, as dvc.yaml lists it
- releases: writing and checking a release
- params: the reader of params.yaml, and most of its sections
- train_section: its section train
- sections: what its sections share
- paths: where the stages' outputs are
- console: progress bars, and errors in one line
- options: command-line options that several commands have
"""
