"""Where things run: a module for each DVC stage, and the `stemforge` command.

Stages, in the order of dvc.yaml: corpus, decode, compute_features, train_stem, separate, evaluate,
leaderboard, export, release. Each reads params.yaml (params), works in .work/ (work) and renames
what is whole to where paths says.

Commands, all behind cli: separate_songs, score_estimates, export_models, import_spleeter,
import_config, train_cluster, release, verify_release.

What they share:

- features: feature_job (what compute_features runs), runners (Beam);
- music and estimates: corpus_option (--corpus), parallel (tracks side by side),
  estimates (files of stems), scoring (tracks to scores), exporting (models to files with proof),
  timings, download (Deezer's archives);
- training: training (what train_stem runs), strategies (devices), heartbeat, monitor (TensorBoard,
  dvclive);
- releases: provenance, model_card, templates/, extras (what ours install);
- people: console (progress, errors in a line).
"""
