"""Estimates against true stems.

- bss_eval: BSSEval v4
- track_metrics: numbers of a whole track
- oracles: estimates that know the truth
- estimates: a folder of anyone's estimates
- scores: scores of a track, museval's JSON, tables
"""
