"""Releases: everything that a user of the models needs, in one folder.

- files: the files of a release and their sums
- writing: from the stages' outputs to a release
- provenance: where it comes from: code, data, parameters, packages
- model_card: what it says of itself; the texts are in templates/
- verification: whether it is whole and computes what it says
"""
