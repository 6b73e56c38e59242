"""Where things run: the stages of dvc.yaml, and the `stemforge` command.

- stages: a module for each stage of dvc.yaml
- commands: a module for each `stemforge` command
- running: what stages and commands share
- scoring: tracks to scores, side by side and resumable
- releases: what a release holds, and checking it
- params: the reader of params.yaml
- paths: where the stages' outputs lie
- console: progress bars and errors in a line
- options: command-line options that several commands have
"""
