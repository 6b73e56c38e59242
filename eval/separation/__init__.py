"""Separation of songs into stems with trained nets.

- separator: the Separator: models, options, stems
- streaming: separation block by block, in bounded memory
- filters: from magnitude estimates to the stems' spectra
- wiener: the multichannel Wiener filter
- graph: from waveform to waveforms in one TensorFlow graph
"""
