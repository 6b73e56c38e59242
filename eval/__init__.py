"""The use of trained nets: separation, scores, leaderboard, report, exports.

- separation: songs to stems
- runtimes: what runs the nets: TensorFlow or LiteRT
- scoring: scores of estimates
- leaderboard: scores of many methods as tables, pages and plots
- report: scores and excerpts of songs as a page to look at and listen to
- web: a page that separates songs on the device of who opens it
- exports: SavedModel and TFLite files, and their parity with Keras
- config: names of precisions, masks, methods and averages
"""
