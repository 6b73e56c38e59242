"""Songs to stems with trained nets.

- separator: the Separator: models and options to stems
- streaming: a song that comes block by block, in bounded memory
- filters: magnitude estimates to the stems' spectra
- wiener: the multichannel Wiener filter
- graph: from waveform to waveforms in one TensorFlow graph
"""
