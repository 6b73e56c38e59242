"""Releases: everything that a user of the models needs, in one folder.

- files: the files of a release and their sums
- git: the commit of the checkout
- writing: from the stages' outputs to a release
- provenance: code, data, parameters and packages that made it
- model_card: its README.md (the model card), licence and citation; the texts are in templates/
- front_matter: what model hubs read at the top of README.md
- verification: checks of its files, models, exports and scores
"""
