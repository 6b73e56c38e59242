"""Scoring tracks, side by side and resumable: what stage evaluate and `stemforge score` share.

- methods: what gives the estimates that are scored
- plan: what will be scored and what not, decided before anything is done
- execution: a plan carried out: here, in processes, or on Beam
- score_files: a folder of scores: its files, its tables, its remarks
"""
