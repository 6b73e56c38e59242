"""The nets and how they are trained.

- nets: what a net is; one module or package for each
- spleeter: Deezer's checkpoints and configurations
- model: a trained model, saved and loaded
- model_files: model directories and TFLite files, found and read without TensorFlow
- config: the parameters of a run
- presets: named values of them
- batch: windows of the mixture and the stems
- losses: what a step minimises; a module for each kind
- dataset: batches of windows, read ahead
- stored: windows of stored features
- waveforms: windows of sound, summed and transformed
- augmentation: what is done to the stems of a window
- sampler: which windows a step trains on
- optimization: optimizers, learning rates, averaged weights
- trainer: the training loop
- step: one step on all replicas
- validation: the best validations, and plateaus
- checkpoints: the state of a run, on disk
- cluster: the devices that train one model together
"""
