"""Separation of songs into stems with trained nets.

- separator: the Separator: models, options, stems
- streaming: separation block by block, in bounded memory
- live: separation while the sound arrives, with a fixed delay
- filters: from magnitude estimates to the stems' spectra
- wiener: the multichannel Wiener filter
- graph: from waveform to waveforms in one TensorFlow graph
"""
