"""What stages and commands share: how work is planned, run and watched.

- work: work in progress, and how it becomes an output
- parallel: tracks in parallel processes
- beam: running Beam pipelines: options, errors, metrics
- beam_workers: the end of a Beam job whose worker process died
- corpora: the tracks that params.yaml or --corpus names
- starter_corpus: the corpus that the checkout comes with
- feature_job: the feature job, planned, run and summed up
- feature_workers: where the feature job's workers are, and which places they can see
- launch: how a training run begins
- training: one training run, from parameters to a published model
- strategies: TensorFlow's distribution strategies by name
- supervisor: several workers of one model, restarted when one fails
- heartbeat: tells the supervisor that a worker is alive
- monitor: TensorBoard and dvclive during training
- pictures: spectrograms and waveforms as images
- songs: songs that a user names: files, folders, patterns, standard input
- estimates: writes separated stems to files
- exporting: all exports of a set of models, with parity
- timings: latency and memory of exports on this machine
- spleeter_models: converts an official checkpoint to models
- spleeter_params: converts Spleeter's configuration to params.yaml
- download: Deezer's archives, checked by checksum
- extras: which packages an extra installs
"""
