"""What stages and commands share: how work is planned, run and watched.

- work: work in progress, and how it becomes an output
- parallel: tracks side by side in processes
- beam: running Beam pipelines: options, errors, metrics
- beam_workers: the end of a Beam job whose worker process died
- corpora: the tracks that params.yaml or --corpus names
- feature_job: the feature job, planned, run and accounted for
- launch: how a training run begins
- training: one training run, from parameters to a published model
- strategies: TensorFlow's distribution strategies by name
- supervisor: several workers of one model, kept going
- heartbeat: signs of life for the supervisor
- monitor: TensorBoard and dvclive while training runs
- pictures: spectrograms and waveforms as images
- estimates: separated stems to files
- scoring: tracks to scores, side by side and resumable
- exporting: all exports of a set of models, with proof
- timings: what exports cost on this machine
- spleeter_models: an official checkpoint to models
- spleeter_params: Spleeter's configuration to params.yaml
- download: Deezer's archives, checked
- extras: which packages an extra installs
"""
