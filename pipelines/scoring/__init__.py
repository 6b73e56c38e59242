"""Scores tracks, several at once and resumable: shared by stage evaluate and `stemforge score`.

- methods: what makes the estimates: files, an oracle, or a model
- plan: what will be scored and what not, decided before the work starts
- execution: carries out a plan: in this process, in several, or on Beam
- score_files: a folder of scores: its files, its tables, its remarks
"""
