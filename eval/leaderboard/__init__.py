"""Scores of many methods as tables, pages and plots.

- tables: averages, intervals, tests
- published: published scores on MUSDB18
- comparable: leaves out scores of another test set
- about: how a leaderboard was computed: leaderboard.json
- board: one leaderboard with all its files
- page: Markdown, LaTeX and box plots
"""
