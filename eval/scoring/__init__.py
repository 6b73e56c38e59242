"""Scores of estimates against true stems.

- bss_eval: BSSEval v4
- rounding: where rounding decides BSSEval's scores
- track_metrics: metrics of a whole track
- oracles: estimates made from the true stems
- estimates: finds and reads a folder of estimates
- scores: scores of a track, museval's JSON, tables
"""
